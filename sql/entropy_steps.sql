-- entropy_steps: what each tensor would take and lose at each step of entropy-coded weights, to choose one for all.
-- Needs layers (the weights table) and
--       steps  (name, number, step, every: one row per tensor and step to try, with one row of the tensor in so many).
-- Gives one row per row of steps: the bytes that the rows tried would take, and the sums of their error.
SELECT name, number, sum(stored_bytes(quantized)) AS bytes,
       sum(error['dot']) AS dot, sum(error['a2']) AS a2, sum(error['b2']) AS b2,
       sum(error['err2']) AS err2, max(error['max_abs']) AS max_abs, sum(error['n']) AS n
FROM (
  SELECT name, number, quantized, error_stats(weights, quantized) AS error
  FROM (
    SELECT layers.name, number, weights, CASE WHEN channel % every = 0 THEN quantize_step(weights, step) END AS quantized
    FROM layers JOIN steps ON layers.name = steps.name
  )
)
GROUP BY name, number
