using System.Text;

namespace KernelScope.Evaluation;

/// <summary>Finds labels of several sources by words; <see cref="FeatureLabels.Search"/> says by which score.</summary>
/// <param name="tables">All of them: a word is rare by how many labels of any source have it.</param>
/// <param name="query">Words.</param>
internal sealed class LabelSearch(IReadOnlyList<LabelTable> tables, string query)
{
    private const double OfPrefix = 0.5;
    private readonly List<string> _words = LabelWords.Split(query);

    /// <summary>The labels that match, best first; among equals by source, then index.</summary>
    public List<(LabelTable Table, int Row, double Score)> Run(Func<LabelTable, bool> includes)
    {
        byte[][] words = [.. _words.Distinct().Select(Encoding.UTF8.GetBytes)];
        double[] scores = Array.ConvertAll(words, ScoreOf);
        var found = new List<(LabelTable Table, int Row, double Score)>();
        foreach (LabelTable table in tables.Where(includes))
            Find(table, words, scores, found);
        (int Order, (LabelTable Table, int Row, double Score) Match)[] sorted = [.. found.Select((m, i) => (i, m))];
        Array.Sort(sorted, (a, b) => Compare(a.Match, b.Match) is int c and not 0 ? c : a.Order - b.Order);
        return [.. sorted.Select(s => s.Match)];
    }

    private static int Compare((LabelTable Table, int Row, double Score) a, (LabelTable Table, int Row, double Score) b)
    {
        int byScore = b.Score.CompareTo(a.Score);
        if (byScore != 0)
            return byScore;
        int bySource = ReferenceEquals(a.Table, b.Table) ? 0 : string.CompareOrdinal(a.Table.Source, b.Table.Source);
        return bySource != 0 ? bySource : a.Table.Indexes.Span[a.Row].CompareTo(b.Table.Indexes.Span[b.Row]);
    }

    /// <summary>ln(1 + n / n_w) of a word; 0 where no label has it.</summary>
    private double ScoreOf(byte[] word)
    {
        int with = 0;
        foreach (LabelTable table in tables)
        {
            int at = table.Words.Find(word);
            if (IsWord(table.Words, at, word))
                with += table.Words.Rows[at].Length;
        }

        return with == 0 ? 0 : Math.Log(1 + (tables.Sum(t => (double)t.Count) / with));
    }

    private static bool IsWord(LabelWords all, int at, ReadOnlySpan<byte> word) =>
        at < all.Words.Count && all.Words[at].SequenceEqual(word);

    private void Find(LabelTable table, byte[][] words, double[] scores, List<(LabelTable Table, int Row, double Score)> found)
    {
        LabelWords all = table.Words;
        double[]? sums = null;
        int[] last = [], whole = [];
        for (int w = 0; w < words.Length; w++)
        {
            int first = all.Find(words[w]);
            for (int at = first; at < all.Words.Count && all.Words[at].StartsWith(words[w]); at++)
            {
                sums ??= new double[table.Count];
                (last, whole) = last.Length > 0 ? (last, whole) : (new int[table.Count], new int[table.Count]);
                bool isWhole = all.Words[at].Length == words[w].Length;
                foreach (int row in all.Rows[at])
                {
                    // The word itself comes before those that it begins, and counts once.
                    if (last[row] == w + 1)
                        continue;
                    last[row] = w + 1;
                    whole[row] += isWhole ? 1 : 0;
                    sums[row] += isWhole ? scores[w] : OfPrefix;
                }
            }
        }

        for (int row = 0; row < last.Length; row++)
        {
            if (last[row] > 0)
                found.Add((table, row, sums![row] + (whole[row] == words.Length && IsPhrase(table, row) ? 1 : 0)));
        }
    }

    /// <summary>Whether a label has the whole query in its order.</summary>
    private bool IsPhrase(LabelTable table, int row) => _words.Count > 1
        && $" {string.Join(' ', LabelWords.Split(table.TextOf(row)))} ".Contains($" {string.Join(' ', _words)} ", StringComparison.Ordinal);
}
