namespace KernelScope.Cli;

/// <summary>Finds what somebody meant who misspelt a name.</summary>
internal static class Spelling
{
    /// <summary>The name that is nearest to a word; null if none is near: more than one letter in three would be wrong.</summary>
    public static string? Nearest(string word, IEnumerable<string> names)
    {
        if (word.Length > 100)
            return null;
        string lower = word.ToLowerInvariant();
        (string Name, int Distance)? best = null;
        foreach (string name in names)
        {
            // Who stopped in the middle of a word means it too.
            bool begins = lower.TrimStart('-').Length >= 3 && name.StartsWith(lower, StringComparison.OrdinalIgnoreCase);
            int distance = begins ? 1 : Distance(lower, name.ToLowerInvariant());
            if (distance <= Math.Max(1, name.TrimStart('-').Length / 3) && (best is null || distance < best.Value.Distance))
                best = (name, distance);
        }

        return best?.Name;
    }

    /// <summary>
    /// The number of insertions, deletions, replacements and exchanges of neighbours that lead from one word to the other, no place being touched twice.
    /// </summary>
    private static int Distance(string a, string b)
    {
        int[,] d = new int[a.Length + 1, b.Length + 1];
        for (int i = 0; i <= a.Length; i++)
            d[i, 0] = i;
        for (int j = 0; j <= b.Length; j++)
            d[0, j] = j;
        for (int i = 1; i <= a.Length; i++)
        {
            for (int j = 1; j <= b.Length; j++)
            {
                d[i, j] = Math.Min(d[i - 1, j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1), 1 + Math.Min(d[i - 1, j], d[i, j - 1]));
                if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                    d[i, j] = Math.Min(d[i, j], d[i - 2, j - 2] + 1);
            }
        }

        return d[a.Length, b.Length];
    }
}
