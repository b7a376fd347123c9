-- equalize: as quantize, but rows are multiplied by the factors of their layer first, those of its input and, where the
-- factors of the layer after are folded into it, those of what it gives.
-- Needs layers  (the weights table),
--       choices (name, bits, group_size, method, symmetric: one row per tensor, NULL where it is not quantized) and
--       changes (name, factors, row_factors, offsets: what becomes of each tensor that is changed, lists for its whole
--               rows, for all of its rows and for its rows again; back_factors, back_row_factors, back_offsets: what brings
--               it back; importance: how much the error of each weight of a row counts, null where all count alike;
--               stored_as: the dtype of one that is not quantized).
-- Gives one row per row of layers, in their order, with the error that quantization made of the weights as they were.
WITH changed AS (
  SELECT layers.*, bits, group_size, method, symmetric, back_factors, back_row_factors, back_offsets, stored_as,
         changes.importance, equalize(weights, factors, channel, row_factors, offsets) AS equalized
  FROM layers LEFT JOIN choices ON layers.name = choices.name LEFT JOIN changes ON layers.name = changes.name
), stored AS (
  SELECT changed.*, quantize(coalesce(equalized, weights), bits, group_size, method, symmetric, importance) AS quantized,
         encode_as(equalized, stored_as) AS encoded
  FROM changed
), decoded AS (
  SELECT stored.*, coalesce(dequantize(quantized), decode_as(encoded, stored_as, array_length(weights))) AS decoded
  FROM stored
)
SELECT name, module, coalesce(stored_as, dtype) AS dtype, shape, channel, quantized,
       CASE WHEN quantized IS NULL THEN coalesce(encoded, data) END AS data,
       error_stats(weights, coalesce(equalize(decoded, back_factors, channel, back_row_factors, back_offsets),
                                     decoded)) AS error
FROM decoded
