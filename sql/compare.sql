-- compare: how far a tensor of one model lies from the same tensor of another.
-- Needs reference and candidate (weights tables), $reference and $candidate (what each calls the tensor), $head and $share:
-- of every $head rows of the reference, those that are $share apart follow each other in the candidate (1, 1: no row moved).
-- Gives one row: whether the stored bytes are the same, and the error sums where the rows are floats. The join holds the rows
-- of the reference in memory: the program gives both tables a range of rows at a time, and adds up what comes of each.
SELECT bool_and(stored) AS same,
       sum(error['dot']) AS dot, sum(error['a2']) AS a2, sum(error['b2']) AS b2,
       sum(error['err2']) AS err2, max(error['max_abs']) AS max_abs, CAST(sum(error['n']) AS DOUBLE) AS n
FROM (
  SELECT coalesce(reference.dtype = candidate.dtype AND reference.data = candidate.data, false) AS stored,
         error_stats(reference.weights, candidate.weights) AS error
  FROM reference JOIN candidate
    ON reference.channel / $head * $head + reference.channel % $share * ($head / $share)
       + reference.channel % $head / $share = candidate.channel
  WHERE reference.name = $reference AND candidate.name = $candidate
)
HAVING count(*) > 0
