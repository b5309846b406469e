namespace KernelScope.Evaluation;

/// <summary>Which labels have which words.</summary>
internal sealed class LabelIndex
{
    private readonly FeatureLabel[] _labels;
    private readonly string[] _words;
    private readonly int[][] _labelsOf;

    public LabelIndex(FeatureLabel[] labels)
    {
        _labels = labels;
        var lists = new SortedDictionary<string, List<int>>(StringComparer.Ordinal);
        for (int i = 0; i < labels.Length; i++)
        {
            foreach (string word in Words(labels[i].Description).Distinct())
            {
                if (!lists.TryGetValue(word, out List<int>? list))
                    lists.Add(word, list = []);
                list.Add(i);
            }
        }

        _words = [.. lists.Keys];
        _labelsOf = [.. lists.Values.Select(l => l.ToArray())];
    }

    public IReadOnlyList<LabelMatch> Search(string query, Func<FeatureLabel, bool> includes)
    {
        string[] words = [.. Words(query)];
        var scores = new Dictionary<int, double>();
        foreach (string word in words.Distinct())
            Score(word, scores);
        string phrase = $" {string.Join(' ', words)} ";
        var matches = new List<LabelMatch>();
        foreach ((int label, double score) in scores)
        {
            if (!includes(_labels[label]))
                continue;
            bool isPhrase = words.Length > 1
                && $" {string.Join(' ', Words(_labels[label].Description))} ".Contains(phrase, StringComparison.Ordinal);
            matches.Add(new LabelMatch(_labels[label], score + (isPhrase ? 1 : 0)));
        }

        return [.. matches.OrderByDescending(m => m.Score).ThenBy(m => m.Label.Source, StringComparer.Ordinal).ThenBy(m => m.Label.Index)];
    }

    private void Score(string word, Dictionary<int, double> scores)
    {
        int at = Array.BinarySearch(_words, word, StringComparer.Ordinal), first = at < 0 ? ~at : at;
        var here = new Dictionary<int, double>();
        for (int w = first; w < _words.Length && _words[w].StartsWith(word, StringComparison.Ordinal); w++)
        {
            double score = w == at ? Math.Log(1 + (_labels.Length / (double)_labelsOf[w].Length)) : 0.5;
            foreach (int label in _labelsOf[w])
                here[label] = Math.Max(score, here.GetValueOrDefault(label));
        }

        foreach ((int label, double score) in here)
            scores[label] = scores.GetValueOrDefault(label) + score;
    }

    /// <summary>The words of a text, without case and accents.</summary>
    private static IEnumerable<string> Words(string text)
    {
        int start = -1;
        string folded = Fold(text);
        for (int i = 0; i <= folded.Length; i++)
        {
            bool isWord = i < folded.Length && char.IsLetterOrDigit(folded[i]);
            if (isWord && start < 0)
                start = i;
            if (isWord || start < 0)
                continue;
            yield return folded[start..i];
            start = -1;
        }
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
