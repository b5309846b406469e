using KernelScope.Evaluation;

namespace KernelScope.Cli;

/// <summary>Tries an SAE on a text: whether it does at its site what its path promises, and where else it would fit.</summary>
internal static class SaeExamination
{
    // Plain prose of several kinds: a few hundred tokens are enough for an L0 and an error ratio to two digits.
    private const string Sample =
        "Once upon a time there lived a miller who had a daughter called Clara. Snow covered the roofs, and the windows were white " +
        "with frost. More than anything she wished for a silver key, and so one morning " +
        "she took her basket and walked until she came to the old bridge. \"Do not be afraid,\" said the owl. \"I know the way.\" A " +
        "harbour is a sheltered place on a coast where ships can anchor, take on cargo and " +
        "wait for better weather. The first stone piers were built by fishermen who had lost their boats. In the spring of that year " +
        "the council met three times, and each time the vote was put off. " +
        "Dear Anna, thank you for your letter and for the photographs of the garden. We shall come on Sunday if the train runs. Heat " +
        "the butter in a wide pan, add the onions and a little salt, and stir until they are soft. " +
        "And the king said unto the people, Hear my words, and keep them, for the days of your fathers are past. A function that is " +
        "given an empty list returns zero; otherwise it adds the first number to the sum of the rest. " +
        "The river rises in the hills above the town, turns east at the mill, and reaches the sea after two hundred miles. Nobody " +
        "knows who planted the oaks along its banks.";

    /// <summary>Bytes of the model's context for the sample; a token has one character at least.</summary>
    public static long ContextBytes(Workbench bench) =>
        bench.ContextBytes(Math.Min(Sample.Length + 1, bench.Files.Config.ContextLength));

    /// <summary>Measures; model and SAE are on the device.</summary>
    public static FitResult Run(Workbench bench, SaeFiles sae)
    {
        (ModelFiles files, CancellationToken cancellation) = (bench.Files, bench.Cancellation);
        int[] text = [files.BosId, .. files.RequiredTokenizer.Encode(Sample)];
        TokenSet tokens = TokenSet.Create([text[..Math.Min(text.Length, files.Config.ContextLength)]], files.Config);
        string name = Path.Exists(sae.Name) ? Path.GetFullPath(sae.Name) : sae.Name;
        SaeTarget target = sae.Target with { Name = name };
        double? released = ReleaseDoubt.ReleasedL0(name);
        SiteFit used = SiteSearch.Used(bench.Model, target, tokens, cancellationToken: cancellation);
        IReadOnlyList<SiteFit> tried = SiteSearch.Run(bench.Model, target, tokens, cancellationToken: cancellation);
        return new FitResult(released, Row(used), ReleaseDoubt.Sentence(name, released, used, tried), [.. tried.Select(Row)]);
    }

    private static FitRow Row(SiteFit fit) => new(fit.Site.ToString(), fit.BeginsWithBos, fit.L0, fit.ErrorRatio);
}
