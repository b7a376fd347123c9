-- mixed_types: what each tensor would lose in each type of a format for engines, to choose one for each.
-- Needs layers     (the weights table) and
--       candidates (name, form, encoding: one row per tensor and type to try).
-- Gives one row per candidate: the sums of its error over all rows of the tensor.
SELECT name, form,
       sum(error['dot']) AS dot, sum(error['a2']) AS a2, sum(error['b2']) AS b2,
       sum(error['err2']) AS err2, max(error['max_abs']) AS max_abs, sum(error['n']) AS n
FROM (
  SELECT candidates.name, form,
         error_stats(weights, decode_as(encode_as(weights, encoding), encoding, array_length(weights))) AS error
  FROM layers JOIN candidates ON layers.name = candidates.name
)
GROUP BY name, form
