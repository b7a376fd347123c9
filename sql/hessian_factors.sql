-- hessian_factors: what GPTQ needs to know of the inputs of each layer.
-- Needs hessians (name, hessian: one row per layer, as calibration writes them, or from one row per token: SELECT name,
--                hessian(input) AS hessian ... GROUP BY name).
-- Gives one row per layer; the factor is NULL where no damping makes its Hessian positive definite.
SELECT name, hessian_factor(hessian) AS factor FROM hessians
