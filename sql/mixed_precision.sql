-- mixed_precision: what each tensor would lose at each width, to choose one for each.
-- Needs layers     (the weights table) and
--       candidates (name, form, bits, group_size, method, symmetric: one row per tensor and width to try).
-- Gives one row per candidate: the sums of its error over all rows of the tensor.
SELECT name, form,
       sum(error['dot']) AS dot, sum(error['a2']) AS a2, sum(error['b2']) AS b2,
       sum(error['err2']) AS err2, max(error['max_abs']) AS max_abs, sum(error['n']) AS n
FROM (
  SELECT candidates.name, form,
         error_stats(weights, quantize(weights, bits, group_size, method, symmetric)) AS error
  FROM layers JOIN candidates ON layers.name = candidates.name
)
GROUP BY name, form
