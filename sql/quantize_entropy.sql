-- quantize_entropy: every chosen tensor entropy-coded, every other copied unchanged.
-- Needs layers  (the weights table),
--       choices (name, bits, group_size, method, step: one row per tensor, NULL where it is not quantized; step is NULL
--               where each row gets the smallest whose codes stay within bits) and
--       changes (as quantize needs it; may have no rows).
-- Gives one row per row of layers, in their order, with the error that quantization made of the weights as they were.
WITH changed AS (
  SELECT layers.*, bits, group_size, method, step, back_factors, back_row_factors, back_offsets, stored_as,
         equalize(weights, factors, channel, row_factors, offsets) AS equalized
  FROM layers
  LEFT JOIN choices ON layers.name = choices.name
  LEFT JOIN changes ON layers.name = changes.name
), stored AS (
  SELECT changed.*, encode_as(equalized, stored_as) AS encoded,
         CASE WHEN step IS NOT NULL THEN quantize_step(coalesce(equalized, weights), step)
              ELSE quantize(coalesce(equalized, weights), bits, group_size, method) END AS quantized
  FROM changed
)
SELECT name, module, coalesce(stored_as, dtype) AS dtype, shape, channel, quantized,
       CASE WHEN quantized IS NULL THEN coalesce(encoded, data) END AS data,
       CASE WHEN back_factors IS NULL THEN error_stats(weights, quantized)
            ELSE error_stats(weights, equalize(CASE WHEN quantized IS NOT NULL THEN dequantize(quantized)
                                                    ELSE decode_as(encoded, stored_as, array_length(weights)) END,
                                               back_factors, channel, back_row_factors, back_offsets)) END AS error
FROM stored
