using System.CommandLine;
using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary>Edits of features at an SAE's site, and what replaces the activation there.</summary>
internal sealed class EditOptions
{
    private readonly Option<string[]> _steer = Repeatable("--steer", "F=+S", "Add S times the direction of feature F: --steer 1738=-15. Repeatable.");
    private readonly Option<string[]> _clamp = Repeatable("--clamp", "F=C", "Hold feature F at activation C; the SAE's error is kept. Repeatable.");
    private readonly Option<string[]> _ablate = Repeatable("--ablate", "F", "Hold feature F at 0. Repeatable.");
    private readonly Option<string?> _splice = new("--splice") { Description = "Replace the activation at the SAE's site: sae (its reconstruction), sae+error (the same plus what it misses), zero.", HelpName = "sae|sae+error|zero" };
    private readonly Option<string> _editAt = new("--edit-at")
    {
        Description = "Where edits act: all, all_but_bos or from_last (the last prompt position and every generated one).",
        HelpName = "WHERE",
        DefaultValueFactory = _ => "all_but_bos",
    };

    public EditOptions(Command verb)
    {
        _splice.Validators.Add(r => Parsing.Require(r, _splice, v => v is "sae" or "sae+error" or "zero", "'{0}' is no splice: there are sae, sae+error and zero."));
        _editAt.Validators.Add(r => Parsing.Require(r, _editAt, v => v is "all" or "all_but_bos" or "from_last", "'{0}' is no place for edits: there are all, all_but_bos and from_last."));
        verb.Options.Add(_steer);
        verb.Options.Add(_clamp);
        verb.Options.Add(_ablate);
        verb.Options.Add(_splice);
        verb.Options.Add(_editAt);
    }

    /// <summary>Reads the edits; null if there are none.</summary>
    /// <exception cref="UsageException">One is malformed, or a feature is held at two values.</exception>
    public Edits? Of(ParseResult parsed)
    {
        var edits = new List<FeatureEdit>();
        foreach (string text in parsed.GetValue(_steer) ?? [])
        {
            (int feature, float value) = Parsing.FeatureValue(text, _steer.Name);
            edits.Add(new FeatureEdit(feature, FeatureEditKind.Add, value));
        }

        foreach (string text in parsed.GetValue(_clamp) ?? [])
        {
            (int feature, float value) = Parsing.FeatureValue(text, _clamp.Name);
            edits.Add(new FeatureEdit(feature, FeatureEditKind.Clamp, value));
        }

        foreach (string text in parsed.GetValue(_ablate) ?? [])
            edits.Add(new FeatureEdit(Parsing.Feature(text, _ablate.Name), FeatureEditKind.Clamp, 0));
        RefuseTwice(edits);
        SpliceMode mode = parsed.GetValue(_splice) switch { "sae" => SpliceMode.Sae, "sae+error" => SpliceMode.SaePlusError, "zero" => SpliceMode.Zero, _ => SpliceMode.None };
        return edits.Count == 0 && mode == SpliceMode.None ? null : new Edits(edits, mode, parsed.GetRequiredValue(_editAt));
    }

    private static void RefuseTwice(List<FeatureEdit> edits)
    {
        IGrouping<int, FeatureEdit>? twice = edits.Where(e => e.Kind == FeatureEditKind.Clamp).GroupBy(e => e.Feature).FirstOrDefault(g => g.Count() > 1);
        if (twice is not null)
            throw new UsageException($"feature {twice.Key} is clamped or ablated twice; it can have one value only.");
    }

    private static Option<string[]> Repeatable(string name, string value, string description) => new(name) { Description = description, HelpName = value, Arity = ArgumentArity.OneOrMore };
}

/// <summary>What happens at an SAE's site.</summary>
/// <param name="Features">Changes of features, in order.</param>
/// <param name="Mode">What replaces the activation before them.</param>
/// <param name="Where">As in <c>--edit-at</c>.</param>
internal sealed record Edits(IReadOnlyList<FeatureEdit> Features, SpliceMode Mode, string Where)
{
    /// <summary>Refuses a feature that the SAE does not have, before anything long begins.</summary>
    public void Check(SaeFiles sae)
    {
        int count = sae.Config.FeatureCount;
        foreach (FeatureEdit edit in Features)
        {
            if (edit.Feature < 0 || edit.Feature >= count)
                throw new WorkException($"feature {edit.Feature} is outside the width of {sae.Name}, which has features 0 to {count - 1}.");
        }

        if (sae.SiteOut.Site == Site.Logits && sae.Site != sae.SiteOut)
            throw new WorkException("the logits exist for the last position only, so they cannot be written from another site.");
    }

    /// <summary>Arms the edits on a session.</summary>
    public SaeSplice Arm(Hooks.HookSet hooks, JumpReluSae sae, SaeFiles files, int bosId, int promptLength) =>
        new(hooks, sae, files.Site, files.SiteOut, Mode, Positions(bosId, promptLength), Features);

    private Positions Positions(int bosId, int promptLength) => Where switch
    {
        "all" => Sae.Positions.All,
        "from_last" => Sae.Positions.From(promptLength - 1),
        _ => Sae.Positions.AllBut(bosId),
    };
}
