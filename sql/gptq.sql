-- gptq: every chosen tensor whose inputs are known quantized for the least error of its output, the others by search.
-- Needs layers  (the weights table),
--       choices (name, bits, group_size: one row per tensor to quantize) and
--       factors (name, factor: one row per tensor whose inputs are known; from a table of inputs, one row per token:
--               CREATE TABLE factors AS SELECT name, hessian_factor(hessian(input)) AS factor FROM inputs GROUP BY name).
-- Gives one row per row to quantize, with the method that was used and the damping that its Hessian took.
SELECT layers.name, module, dtype, shape, channel,
       CASE WHEN factor IS NULL THEN quantize(weights, bits, group_size)
            ELSE gptq(weights, factor, bits, group_size) END AS quantized,
       CASE WHEN factor IS NULL THEN 'search' ELSE 'gptq' END AS method,
       factor['damping'] AS damping
FROM layers
JOIN choices ON layers.name = choices.name
LEFT JOIN factors ON layers.name = factors.name
