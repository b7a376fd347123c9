-- export: every row as the bytes that a format for engines stores.
-- Needs layers  (the weights table),
--       choices (name, bits, group_size, method, symmetric, encoding, importance: one row per tensor; bits are NULL where
--               a row is not quantized and decoded again before it is encoded, encoding is NULL where it stays as stored;
--               importance is how much the error of each weight of a row counts, NULL where all count alike) and
--       changes (name, factors, row_factors, offsets, back_factors, back_row_factors, back_offsets, importance: as
--               quantize needs them; the importance of choices comes first; may have no rows).
-- Gives one row per row of layers, with the error of what is stored, of the weights as they were.
WITH changed AS (
  SELECT layers.name, channel, weights, data, bits, group_size, method, symmetric, encoding, back_factors, back_row_factors,
         back_offsets, coalesce(choices.importance, changes.importance) AS importance,
         coalesce(equalize(weights, factors, channel, row_factors, offsets), weights) AS equalized
  FROM layers
  LEFT JOIN choices ON layers.name = choices.name
  LEFT JOIN changes ON layers.name = changes.name
), stored AS (
  SELECT changed.*,
         coalesce(encode_as(coalesce(dequantize(quantize(equalized, bits, group_size, method, symmetric, importance)),
                                     equalized), encoding, importance),
                  data) AS encoded
  FROM changed
), decoded AS (
  SELECT stored.*, decode_as(encoded, encoding, array_length(weights)) AS decoded FROM stored
)
SELECT name, channel, encoded,
       error_stats(weights, coalesce(equalize(decoded, back_factors, channel, back_row_factors, back_offsets),
                                     decoded)) AS error
FROM decoded
