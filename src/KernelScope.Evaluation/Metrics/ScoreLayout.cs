namespace KernelScope.Evaluation;

/// <summary>How the numbers of one sequence lie in a row of doubles, by name. Every sequence has the same layout, so a journal of them can be read column by column.</summary>
/// <remarks>Names of a site begin with <c>site0/</c>, of an SAE with <c>sae0/</c>; what follows is the name of the array in the output.</remarks>
internal sealed class ScoreLayout
{
    private readonly Dictionary<string, (int Offset, int Count)> _fields = [];

    private readonly IReadOnlyList<SpliceRun> _splices;

    /// <summary>The layout for sequences of a length; <paramref name="gradients"/>: with what needs gradients, at the sites that have them.</summary>
    public ScoreLayout(int length, IReadOnlyList<SitePlan> sites, bool gradients, IReadOnlyList<SpliceRun> splices)
    {
        (Length, _splices) = (length, splices);
        Add("ce_clean", LossCount);
        for (int g = 0; g < sites.Count; g++)
        {
            // ‖y − ȳ‖² around the mean over counted positions, over all but padding, and over every position; ‖y‖².
            foreach (string name in (ReadOnlySpan<string>)["squared_deviation", "squared_deviation_not_pad", "squared_deviation_all",
                "squared_norm"])
                Add(OfSite(g, name), length);
            AddRuns(SpliceRun.OfSite, name => OfSite(g, name));
            foreach (int s in sites[g].Saes)
            {
                foreach (string name in (ReadOnlySpan<string>)["squared_error", "dot", "squared_norm_out", "l1"])
                    Add(OfSae(s, name), length);
                AddRuns(SpliceRun.OfSae, name => OfSae(s, name));
                if (splices.Contains(SpliceRun.OfSae[^1]))
                    Add(OfSae(s, "max_logit_difference"), 1);
                if (!gradients || !sites[g].HasGradient)
                    continue;
                Add(OfSae(s, "r_L0"), length);
                Add(OfSae(s, "r_L0_summed"), length);
            }
        }
    }

    /// <summary>Positions of a sequence.</summary>
    public int Length { get; }

    /// <summary>Positions with a next token.</summary>
    public int LossCount => Length - 1;

    /// <summary>Number of doubles of a sequence.</summary>
    public int Size { get; private set; }

    public static string OfSite(int site, string name) => $"site{site}/{name}";

    public static string OfSae(int sae, string name) => $"sae{sae}/{name}";

    /// <summary>Where a field lies.</summary>
    public (int Offset, int Count) Place(string name) => _fields[name];

    /// <summary>Whether there is such a field.</summary>
    public bool Has(string name) => _fields.ContainsKey(name);

    /// <summary>A field of a row.</summary>
    public Span<double> Of(double[] row, string name)
    {
        (int offset, int count) = _fields[name];
        return row.AsSpan(offset, count);
    }

    private void AddRuns(SpliceRun[] runs, Func<string, string> prefix)
    {
        foreach (SpliceRun run in runs.Where(_splices.Contains))
        {
            Add(prefix($"ce_{run.ArrayName}"), LossCount);
            Add(prefix($"kl_{run.ArrayName}"), Length);
        }
    }

    private void Add(string name, int count)
    {
        _fields.Add(name, (Size, count));
        Size += count;
    }
}
