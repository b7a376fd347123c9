-- quantize: every chosen tensor quantized, every other copied unchanged.
-- Needs layers  (the weights table) and
--       choices (name, bits, group_size, method, symmetric: one row per tensor to quantize).
-- Gives one row per row of layers, with the error that quantization made.
SELECT name, module, dtype, shape, channel, quantized,
       CASE WHEN quantized IS NULL THEN data END AS data,
       error_stats(weights, quantized) AS error
FROM (
  SELECT layers.*, quantize(weights, bits, group_size, method, symmetric) AS quantized
  FROM layers LEFT JOIN choices ON layers.name = choices.name
)
