-- equalize: as quantize, but the rows of some layers are multiplied by a factor per input channel first.
-- Needs layers  (the weights table),
--       choices (name, bits, group_size, method, symmetric: one row per tensor, NULL where it is not quantized) and
--       factors (name, factors, input_scale: those of recipe equalization, and one over each).
-- Gives one row per row of layers, in their order, with the error that quantization made of the weights as they were.
SELECT name, module, dtype, shape, channel, quantized,
       CASE WHEN quantized IS NULL THEN data END AS data,
       error_stats(weights, coalesce(equalize(dequantize(quantized), input_scale), dequantize(quantized))) AS error
FROM (
  SELECT layers.*, input_scale,
         quantize(coalesce(equalize(weights, factors), weights), bits, group_size, method, symmetric) AS quantized
  FROM layers LEFT JOIN (
    SELECT choices.*, factors, input_scale FROM choices LEFT JOIN factors ON choices.name = factors.name
  ) AS choices ON layers.name = choices.name
)
