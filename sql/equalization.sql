-- equalization: how far each input channel of a layer trades range between its activations and its weights.
-- Needs layers      (the weights table),
--       choices     (name, bits: one row per tensor; bits is NULL where it is not quantized),
--       activations (name, channel_min, channel_max: one row per layer input and timestep) and
--       alphas      (alpha: 0 leaves the activations alone, 1 the weights; NULL: log equalization).
-- Gives the factors of each quantized matrix with activations and each alpha, from the absmax over all timesteps.
WITH inputs AS (
  SELECT name, channel_absmax(bound) AS act_absmax
  FROM (SELECT name, channel_min AS bound FROM activations UNION ALL SELECT name, channel_max FROM activations)
  GROUP BY name
), matrices AS (
  SELECT layers.name, channel_absmax(weights) AS weight_absmax
  FROM layers JOIN choices ON layers.name = choices.name
  WHERE bits IS NOT NULL AND array_length(shape) = 2
  GROUP BY layers.name
)
SELECT matrices.name, alpha,
       CASE WHEN alpha IS NULL THEN log_equalization_factors(act_absmax)
            ELSE equalization_factors(act_absmax, weight_absmax, alpha) END AS factors
FROM matrices JOIN inputs ON matrices.name = inputs.name CROSS JOIN alphas
