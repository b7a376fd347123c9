-- quantize: every chosen tensor quantized, every other copied unchanged.
-- Needs layers          (the weights table),
--       choices         (name, bits, group_size, method, symmetric: one row per tensor, NULL where it is not quantized),
--       changes         (name, factors, row_factors, offsets: what equalization makes of each tensor that it changes, lists
--                       for its whole rows, for all of its rows and for its rows again; back_factors, back_row_factors,
--                       back_offsets: what brings it back; importance: how much the error of each weight of a row counts,
--                       NULL where all count alike; stored_as: the dtype of one that is not quantized) and
--       hessian_factors (name, factor: one row per tensor that GPTQ quantizes, as the recipe hessian_factors gives them).
-- Either of the last two may have no rows. A view that the planner knows to be empty costs nothing.
-- Gives one row per row of layers, in their order, with the error that quantization made of the weights as they were.
WITH changed AS (
  SELECT layers.*, bits, group_size, method, symmetric, factor, back_factors, back_row_factors, back_offsets, stored_as,
         changes.importance, equalize(weights, factors, channel, row_factors, offsets) AS equalized
  FROM layers
  LEFT JOIN choices ON layers.name = choices.name
  LEFT JOIN changes ON layers.name = changes.name
  LEFT JOIN hessian_factors ON layers.name = hessian_factors.name
), stored AS (
  SELECT changed.*, encode_as(equalized, stored_as) AS encoded,
         CASE WHEN factor IS NOT NULL THEN gptq(weights, factor, bits, group_size)
              ELSE quantize(coalesce(equalized, weights), bits, group_size, method, symmetric, importance) END AS quantized
  FROM changed
)
SELECT name, module, coalesce(stored_as, dtype) AS dtype, shape, channel, quantized,
       CASE WHEN quantized IS NULL THEN coalesce(encoded, data) END AS data,
       CASE WHEN back_factors IS NULL THEN error_stats(weights, quantized)
            ELSE error_stats(weights, equalize(CASE WHEN quantized IS NOT NULL THEN dequantize(quantized)
                                                    ELSE decode_as(encoded, stored_as, array_length(weights)) END,
                                               back_factors, channel, back_row_factors, back_offsets)) END AS error
FROM stored
