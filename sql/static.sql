-- static: one activation quantizer per layer for all timesteps; what time groups are compared with.
-- Needs activations (name, timestep, channel_min, channel_max: one row per layer input and timestep), $bits, $symmetric.
-- Gives one row per layer: the quantizer of the range over all timesteps.
SELECT name, CAST(0 AS INT) AS time_group,
       CAST('-Infinity' AS DOUBLE) AS t_from, CAST('Infinity' AS DOUBLE) AS t_to,
       params['scale'] AS scale, params['zero_point'] AS zero_point, CAST($bits AS BIGINT) AS bits
FROM (
  SELECT name,
         activation_params(min(array_min(channel_min)), max(array_max(channel_max)), $bits, $symmetric) AS params
  FROM activations
  GROUP BY name
)
ORDER BY name
