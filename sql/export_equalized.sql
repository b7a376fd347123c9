-- export_equalized: as export, but rows are multiplied by the factors of their layer first, as equalize does it.
-- Needs layers  (the weights table),
--       choices (name, bits, group_size, method, symmetric, encoding, importance: as export needs them) and
--       changes (name, factors, row_factors, offsets, back_factors, back_row_factors, back_offsets, importance: as
--               equalize needs them; that of choices comes first).
-- Gives one row per row of layers, with the error of what is stored, of the weights as they were.
WITH changed AS (
  SELECT layers.name, channel, weights, data, bits, group_size, method, symmetric, encoding, coalesce(choices.importance, changes.importance) AS importance,
         back_factors, back_row_factors, back_offsets,
         coalesce(equalize(weights, factors, channel, row_factors, offsets), weights) AS equalized
  FROM layers LEFT JOIN choices ON layers.name = choices.name LEFT JOIN changes ON layers.name = changes.name
), stored AS (
  SELECT changed.*,
         coalesce(encode_as(coalesce(dequantize(quantize(equalized, bits, group_size, method, symmetric, importance)), equalized),
                            encoding, importance),
                  data) AS encoded
  FROM changed
), decoded AS (
  SELECT stored.*, decode_as(encoded, encoding, array_length(weights)) AS decoded FROM stored
)
SELECT name, channel, encoded,
       error_stats(weights, coalesce(equalize(decoded, back_factors, channel, back_row_factors, back_offsets),
                                     decoded)) AS error
FROM decoded
