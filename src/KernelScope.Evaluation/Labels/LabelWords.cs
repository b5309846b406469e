namespace KernelScope.Evaluation;

/// <summary>The words of a source's labels, without case and accents, by their bytes; and which labels have each.</summary>
/// <param name="Words">Words, ascending.</param>
/// <param name="Rows">The labels that have each, ascending.</param>
internal sealed record LabelWords(Ragged<byte> Words, Ragged<int> Rows)
{
    public static LabelWords Create(LabelTable table)
    {
        var rowsOf = new Dictionary<string, List<int>>(StringComparer.Ordinal);
        var known = rowsOf.GetAlternateLookup<ReadOnlySpan<char>>();
        for (int row = 0; row < table.Count; row++)
        {
            ReadOnlySpan<char> folded = Fold(table.TextOf(row));
            for (int at = 0; TryNext(folded, ref at, out ReadOnlySpan<char> word);)
            {
                if (!known.TryGetValue(word, out List<int>? rows))
                    rowsOf.Add(word.ToString(), rows = []);
                if (rows.Count == 0 || rows[^1] != row)
                    rows.Add(row);
            }
        }

        var words = new RaggedBuilder<byte>();
        var lists = new RaggedBuilder<int>();
        (byte[] Word, List<int> Rows)[] sorted = [.. rowsOf.Select(w => (System.Text.Encoding.UTF8.GetBytes(w.Key), w.Value))];
        Array.Sort(sorted, (a, b) => a.Word.AsSpan().SequenceCompareTo(b.Word));
        foreach ((byte[] word, List<int> rows) in sorted)
        {
            words.Add(word);
            lists.Add(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(rows));
        }

        return new LabelWords(words.ToRagged(), lists.ToRagged());
    }

    /// <summary>The first word that is not below one.</summary>
    public int Find(ReadOnlySpan<byte> word)
    {
        int low = 0, high = Words.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (Words[middle].SequenceCompareTo(word) < 0)
                low = middle + 1;
            else
                high = middle;
        }

        return low;
    }

    /// <summary>The words of a text, without case and accents.</summary>
    public static List<string> Split(string text)
    {
        var words = new List<string>();
        ReadOnlySpan<char> folded = Fold(text);
        for (int at = 0; TryNext(folded, ref at, out ReadOnlySpan<char> word);)
            words.Add(word.ToString());
        return words;
    }

    private static bool TryNext(ReadOnlySpan<char> folded, ref int at, out ReadOnlySpan<char> word)
    {
        while (at < folded.Length && !char.IsLetterOrDigit(folded[at]))
            at++;
        int start = at;
        while (at < folded.Length && char.IsLetterOrDigit(folded[at]))
            at++;
        word = folded[start..at];
        return !word.IsEmpty;
    }

    // The globalisation of the machine is not used, so that a search gives the same everywhere.
    private static string Fold(string text) => string.Create(text.Length, text, static (span, source) =>
    {
        const string Accented = "àáâãäåāăąçćĉċčďđèéêëēĕėęěĝğġģĥħìíîïĩīĭįıĵķĺļľłñńņňòóôõöøōŏőŕŗřśŝşšţťŧùúûüũūŭůűųŵýÿŷźżžß";
        const string Plain = "aaaaaaaaacccccddeeeeeeeeegggghhiiiiiiiiijkllllnnnnooooooooorrrsssstttuuuuuuuuuuwyyyzzzs";
        for (int i = 0; i < span.Length; i++)
        {
            char c = char.ToLowerInvariant(source[i]);
            int at = c < 0x80 ? -1 : Accented.IndexOf(c, StringComparison.Ordinal);
            span[i] = at < 0 ? c : Plain[at];
        }
    });
}
