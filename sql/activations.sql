-- activations: the inputs of the layers that are quantized.
-- Needs calibration (name, timestep, channel_min, channel_max ...: one row per layer input and timestep) and
--       choices     (name, bits: one row per tensor, NULL where it is not quantized).
-- Gives the rows of calibration whose layer is quantized.
SELECT calibration.* FROM calibration JOIN choices ON calibration.name = choices.name WHERE bits IS NOT NULL
