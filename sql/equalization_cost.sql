-- equalization_cost: what the factors for each alpha are expected to cost at a layer's output.
-- Needs layers     (the weights table),
--       choices    (name, bits, group_size, method, symmetric: one row per tensor to quantize) and
--       candidates (name, alpha, factors, input_size, noise: the factors, the root mean square of each channel of the
--                  equalized input, and the mean squared error that its quantizers make of an element).
-- Gives one row per layer and alpha: the mean squared error by the weights' codes and by the activations', summed over
-- output channels.
SELECT name, alpha, sum(by_weights + noise * energy) AS cost
FROM (
  SELECT name, alpha, noise, error_stats(equalized, quantized)['a2'] AS energy,
         error_stats(equalize(equalized, input_size), equalize(dequantize(quantized), input_size))['err2'] AS by_weights
  FROM (
    SELECT name, alpha, noise, input_size, equalized,
           quantize(equalized, bits, group_size, method, symmetric) AS quantized
    FROM (
      SELECT layers.name, alpha, noise, input_size, bits, group_size, method, symmetric,
             equalize(weights, factors) AS equalized
      FROM layers JOIN choices ON layers.name = choices.name JOIN candidates ON layers.name = candidates.name
      WHERE bits IS NOT NULL
    )
  )
)
GROUP BY name, alpha
