-- rounding_noise: what the quantizers of activations do to an element of each layer's input.
-- Needs activations (name, timestep: one row per layer input and timestep) and
--       params      (name, t_from, t_to, scale: one row per layer and group of timesteps, as time_groups gives them).
-- Gives the mean squared error of an element of each layer's input over all timesteps: a twelfth of the squared step.
SELECT activations.name, avg(CAST(scale AS DOUBLE) * scale) / 12 AS noise
FROM activations JOIN params ON activations.name = params.name AND timestep >= t_from AND timestep < t_to
GROUP BY activations.name
