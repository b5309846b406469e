namespace KernelScope.Training.Runs;

/// <summary>Which positions of a sequence have rows: those whose token is not excluded, from a first position on.</summary>
internal sealed class RowSelection(IEnumerable<int> excludedIds, int skipFirst)
{
    private readonly HashSet<int> _excluded = [.. excludedIds];

    /// <summary>Whether a position has a row.</summary>
    public bool Keeps(int token, int position) => position >= skipFirst && !_excluded.Contains(token);

    /// <summary>Rows of a sequence.</summary>
    public int Count(ReadOnlySpan<int> ids)
    {
        int count = 0;
        for (int t = 0; t < ids.Length; t++)
            count += Keeps(ids[t], t) ? 1 : 0;
        return count;
    }

    /// <summary>The rows of a shard: for each its sequence, position and token; and the positions without one, by token id.</summary>
    public (int[] Sequence, int[] Position, int[] Token, SortedDictionary<int, long> Excluded) RowsOf(TokenShard tokens)
    {
        var sequence = new List<int>();
        var position = new List<int>();
        var token = new List<int>();
        var excluded = new SortedDictionary<int, long>();
        for (int s = 0; s < tokens.Sequences.Length; s++)
        {
            int[] ids = tokens.Sequences[s];
            for (int t = 0; t < ids.Length; t++)
            {
                if (!Keeps(ids[t], t))
                {
                    excluded[ids[t]] = excluded.GetValueOrDefault(ids[t]) + 1;
                    continue;
                }

                sequence.Add((int)(tokens.FirstSequence + s));
                position.Add(t);
                token.Add(ids[t]);
            }
        }

        return ([.. sequence], [.. position], [.. token], excluded);
    }
}
