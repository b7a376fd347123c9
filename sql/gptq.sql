-- gptq: as quantize, but for the least error of a layer's output where its inputs are known.
-- Needs layers  (the weights table),
--       choices (name, bits, group_size, method, symmetric: one row per tensor, NULL where it is not quantized) and
--       factors (name, factor: one row per tensor whose inputs are known; from the table that calibration writes:
--               CREATE TABLE factors AS SELECT name, hessian_factor(hessian) AS factor FROM hessians,
--               or from one row per token: SELECT name, hessian_factor(hessian(input)) ... GROUP BY name).
-- Gives one row per row of layers, with the error that quantization made of the weights.
SELECT name, module, dtype, shape, channel, quantized,
       CASE WHEN quantized IS NULL THEN data END AS data,
       error_stats(weights, quantized) AS error
FROM (
  SELECT layers.*,
         CASE WHEN factor IS NULL THEN quantize(weights, bits, group_size, method, symmetric)
              ELSE gptq(weights, factor, bits, group_size) END AS quantized
  FROM layers
  LEFT JOIN choices ON layers.name = choices.name
  LEFT JOIN factors ON layers.name = factors.name
)
