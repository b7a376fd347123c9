-- compare: how far tensors of one model lie from the same tensors of another.
-- Needs reference and candidate (weights tables) and
--       pairs (reference, candidate: what each calls a tensor; head, share: of every head rows of the reference, those that
--              are share apart follow each other in the candidate; 1, 1 where no row moved).
-- Gives one row per tensor: whether the stored bytes are the same, and the error sums where the rows are floats. The join
-- holds the rows of the reference in memory: the program gives both tables some MiB of rows at a time, of one tensor or of
-- many, and adds up what comes of each.
SELECT name, bool_and(stored) AS same,
       sum(error['dot']) AS dot, sum(error['a2']) AS a2, sum(error['b2']) AS b2,
       sum(error['err2']) AS err2, max(error['max_abs']) AS max_abs, CAST(sum(error['n']) AS DOUBLE) AS n
FROM (
  SELECT reference.name,
         coalesce(reference.dtype = candidate.dtype AND reference.data = candidate.data, false) AS stored,
         error_stats(reference.weights, candidate.weights) AS error
  FROM (
    SELECT reference.*, pairs.candidate AS other, channel / head * head + channel % share * (head / share)
                                                  + channel % head / share AS place
    FROM reference JOIN pairs ON reference.name = pairs.reference
  ) AS reference
  JOIN candidate ON reference.other = candidate.name AND reference.place = candidate.channel
)
GROUP BY name
