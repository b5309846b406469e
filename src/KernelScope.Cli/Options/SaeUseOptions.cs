using System.CommandLine;
using System.CommandLine.Parsing;
using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary>An SAE as the command line names it, with what belongs to it.</summary>
/// <param name="Name">What was named; null: nothing, so that it is the default.</param>
/// <param name="Site">Where it reads; null: as its files say.</param>
/// <param name="SiteOut">Where it writes; null: as its files say.</param>
/// <param name="Edits">What happens at its site.</param>
internal sealed record SaeUse(string? Name, HookPoint? Site, HookPoint? SiteOut, Edits Edits)
{
    /// <summary>Whether anything was said of it.</summary>
    public bool IsMeant => Name is not null || Site is not null || SiteOut is not null || !Edits.AreNone;
}

/// <summary>
/// Any number of SAEs, each with its site and its edits: an option belongs to the <c>--sae</c> before it. With one SAE, or the default one, the order does not matter.
/// </summary>
internal sealed class SaeUseOptions
{
    private readonly Option<string[]> _sae = SaeOptions.Several();
    private readonly Option<string[]> _site = Repeatable("--site", "POINT", "Where the SAE reads, if its path or cfg.json does not say " +
        "so: resid_post.3, or TransformerLens' blocks.3.hook_resid_post.");
    private readonly Option<string[]> _siteOut = Repeatable("--site-out", "POINT", "Where a transcoder writes: mlp_out_post.3.");
    private readonly Option<string[]> _steer = Repeatable("--steer", "F=+S", "Add S times the direction of feature F: --steer " +
        "1738=-15. Repeatable.");
    private readonly Option<string[]> _clamp = Repeatable("--clamp", "F=C", "Hold feature F at activation C; the SAE's error is kept. " +
        "Repeatable.");
    private readonly Option<string[]> _ablate = Repeatable("--ablate", "F", "Hold feature F at 0. Repeatable.");
    private readonly Option<string[]> _splice = Repeatable("--splice", "sae|sae+error|zero|mean", "Replace the activation at the SAE's " +
        "site: sae (its reconstruction), sae+error (the same plus what it misses), zero, mean (needs --mean-from).");
    private readonly Option<string[]> _meanFrom = Repeatable("--mean-from", "F", "Where the mean activation comes from: an npz (an " +
        "array named by the hook point, [width] or [tokens, width], or xbar as eval --out writes it), token ids (.json), or a text; " +
        "the model then runs over it. BOS, EOS and padding do not count.");
    private readonly Option<string[]> _editAt = Repeatable("--edit-at", "WHERE", "Where edits act: all, all_but_bos (the default), " +
        "from_last (the last prompt position and every generated one), or positions: 0,3,5-9 (12- is 12 and all after it).");
    private readonly Option[] _bound;

    public SaeUseOptions(Command verb)
    {
        _bound = [_site, _siteOut, _steer, _clamp, _ablate, _splice, _meanFrom, _editAt];
        verb.Options.Add(_sae);
        _sae.CompletionSources.Add([.. Demo.SaeNames]);
        _splice.CompletionSources.Add("sae", "sae+error", "zero", "mean");
        _editAt.CompletionSources.Add("all", "all_but_bos", "from_last");
        foreach (Option option in _bound)
            verb.Options.Add(option);
        verb.Description +=
            "\nWith several --sae, --site, --site-out and edits belong to the --sae before them; an --edit-at before the first one is " +
            "meant for all.\n" +
            "Edits at one point act in the order of their SAEs.";
    }

    /// <summary>Reads them; there is at least one, which may be the default SAE without edits.</summary>
    /// <exception cref="UsageException">An edit is malformed, belongs to no SAE or is given twice.</exception>
    /// <param name="parsed">The command line.</param>
    /// <param name="withoutStrength">Whether <c>--steer</c> names a feature alone, whose strength something else gives.</param>
    public IReadOnlyList<SaeUse> Read(ParseResult parsed, bool withoutStrength = false)
    {
        List<Given> given = InOrder(parsed);
        int named = given.Count(g => g.Option == _sae);
        if (named <= 1)
            return [Use(given.Find(g => g.Option == _sae)?.Value, given.FindAll(g => g.Option != _sae), null, withoutStrength)];
        int first = given.FindIndex(g => g.Option == _sae);
        EditPlace? everywhere = null;
        foreach (Given early in given.Take(first))
        {
            if (early.Option != _editAt || everywhere is not null)
                throw new UsageException($"{early.Option.Name} {Printable.Escape(early.Value)} stands before the first of several " +
                    "--sae; put it after the one that it belongs to.");
            everywhere = EditPlace.Parse(early.Value);
        }

        var uses = new List<SaeUse>();
        for (int start = first; start < given.Count;)
        {
            int end = given.FindIndex(start + 1, g => g.Option == _sae) is int next and >= 0 ? next : given.Count;
            uses.Add(Use(given[start].Value, given[(start + 1)..end], everywhere, withoutStrength));
            start = end;
        }

        return everywhere is null || uses.Exists(u => !u.Edits.AreNone) ? uses : throw NoEdit(null);
    }

    /// <summary>Warns of SAEs that a command loads for nothing: no edit is made with them, and their features are not shown.</summary>
    public static void WarnIdle(IReadOnlyList<SaeUse> uses, Streams streams, string shows)
    {
        foreach (SaeUse use in uses.Where(u => u.IsMeant && u.Edits.AreNone))
        {
            string option = use.Name is null ? "--site" : $"--sae {use.Name}";
            streams.Warn($"{option} changes nothing here: there is no edit with it (--steer, --clamp, --ablate, " +
                $"--splice){shows}.");
        }
    }

    private static UsageException NoEdit(string? sae) =>
        new($"--edit-at says where edits act, and there is no edit{(sae is null ? "" : $" for {Printable.Escape(sae)}")}: --steer, " +
        "--clamp, --ablate or --splice.");

    private SaeUse Use(string? name, List<Given> own, EditPlace? everywhere, bool withoutStrength)
    {
        List<FeatureEdit> edits =
        [
            .. own.Where(g => g.Option == _steer).Select(g => withoutStrength ? FeatureEdit.Steer(Parsing.Feature(g.Value, _steer.Name), 0)
            : Edit(g, FeatureEditKind.Add)),
            .. own.Where(g => g.Option == _clamp).Select(g => Edit(g, FeatureEditKind.Clamp)),
            .. own.Where(g => g.Option == _ablate).Select(g => FeatureEdit.Ablate(Parsing.Feature(g.Value, _ablate.Name))),
        ];
        RefuseTwice(edits);
        SpliceMode mode = Single(own, _splice, name) switch
        {
            null => SpliceMode.None,
            "sae" => SpliceMode.Sae,
            "sae+error" => SpliceMode.SaePlusError,
            "zero" => SpliceMode.Zero,
            "mean" => SpliceMode.Mean,
            string other => throw new UsageException($"'{Printable.Escape(other)}' is not a splice: there are sae, sae+error, zero and " +
                "mean."),
        };
        string? mean = Single(own, _meanFrom, name);
        if ((mode == SpliceMode.Mean) != mean is not null)
            throw new UsageException(mean is null ? "--splice mean needs --mean-from: an npz, token ids or a text to take the mean from."
                : "--mean-from belongs to --splice mean.");
        EditPlace where = Single(own, _editAt, name) is string at ? EditPlace.Parse(at) : everywhere ?? EditPlace.AllButBos;
        if (edits.Count == 0 && mode == SpliceMode.None && own.Exists(g => g.Option == _editAt))
            throw NoEdit(name);
        return new SaeUse(name, Point(own, _site, name), Point(own, _siteOut, name), new Edits(edits, mode, mean, where));
    }

    private static FeatureEdit Edit(Given given, FeatureEditKind kind)
    {
        (int feature, float value) = Parsing.FeatureValue(given.Value, given.Option.Name);
        return new FeatureEdit(feature, kind, value);
    }

    /// <summary>The options with their values, as they were typed.</summary>
    private List<Given> InOrder(ParseResult parsed)
    {
        var given = new List<Given>();
        for (int i = 0; i + 1 < parsed.Tokens.Count && parsed.Tokens[i].Type != TokenType.DoubleDash; i++)
        {
            if (parsed.Tokens[i].Type == TokenType.Option && _bound.Append(_sae)
                .FirstOrDefault(o => o.Name == parsed.Tokens[i].Value) is Option option)
                given.Add(new Given(option, parsed.Tokens[i + 1].Value));
        }

        return given;
    }

    private static string? Single(List<Given> own, Option option, string? sae)
    {
        List<Given> found = own.FindAll(g => g.Option == option);
        return found.Count <= 1 ? found.FirstOrDefault()?.Value
            : throw new UsageException($"{option.Name} is given twice{(sae is null ? "" : $" for {Printable.Escape(sae)}")}; it can " +
            "have one value only.");
    }

    private static HookPoint? Point(List<Given> own, Option option, string? sae) => Single(own, option, sae) is string text
        ? Parsing.Point(text, option.Name) : null;

    private static void RefuseTwice(List<FeatureEdit> edits)
    {
        IGrouping<int, FeatureEdit>? twice = edits.Where(e => e.Kind == FeatureEditKind.Clamp).GroupBy(e => e.Feature)
            .FirstOrDefault(g => g.Count() > 1);
        if (twice is not null)
            throw new UsageException($"feature {twice.Key} is clamped or ablated twice; it can have one value only.");
    }

    private static Option<string[]> Repeatable(string name, string value, string description) =>
        new(name) { Description = description, HelpName = value, Arity = ArgumentArity.OneOrMore };

    private sealed record Given(Option Option, string Value);
}
