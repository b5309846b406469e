using System.Globalization;
using System.Text.Json.Nodes;
using KernelScope.Hooks;
using KernelScope.Training.Runs;

namespace KernelScope.Training.Suites;

/// <summary>One SAE or transcoder of a suite.</summary>
internal sealed record SuiteItem
{
    /// <summary>The run's id.</summary>
    public required string Run { get; init; }

    /// <summary>Where it reads.</summary>
    public required HookPoint Site { get; init; }

    /// <summary>Where a transcoder writes; null for an SAE.</summary>
    public required HookPoint? SiteOut { get; init; }

    /// <summary>How it is trained; with <see cref="NeedsPilot"/> the sparsity is a rung of the default ladder, which a pilot scales.</summary>
    public required TrainingOptions Options { get; init; }

    /// <summary>The order in which rows are served, and which are kept back.</summary>
    public required RunRowsOptions Rows { get; init; }

    /// <summary>Whether the sparsity is multiplied by what a pilot finds.</summary>
    public required bool NeedsPilot { get; init; }

    /// <summary>Hash of everything that decides its bytes: the run, the sites, the options.</summary>
    public required string Id { get; init; }

    /// <summary>Names its folder: <c>resid_post.3.w1024.l0.0003.s0</c>; <c>p0.0003</c> where a pilot scales it, <c>t40</c>
    /// for a target L0, <c>k32</c> for a k.</summary>
    public string Name => string.Create(CultureInfo.InvariantCulture, $"{PlaceName}.w{Options.Width}.{SparsityName}.s{Options.Seed}");

    /// <summary>Names its pilot, which all sparsities and seeds share.</summary>
    public string PilotName => string.Create(CultureInfo.InvariantCulture, $"{PlaceName}.w{Options.Width}");

    private string PlaceName => SiteOut is HookPoint target ? $"{Site}-{target}" : $"{Site}";

    private string SparsityName => Options.K > 0 ? string.Create(CultureInfo.InvariantCulture, $"k{Options.K}")
        : Options.TargetL0 > 0 ? string.Create(CultureInfo.InvariantCulture, $"t{Options.TargetL0:R}")
        : string.Create(CultureInfo.InvariantCulture, $"{(NeedsPilot ? 'p' : 'l')}{Options.Sparsity:R}");

    /// <summary>Whether another item can be trained with the same reader, batch by batch.</summary>
    public bool SharesRows(SuiteItem other) => (Site, SiteOut, Options.Batch) == (other.Site, other.SiteOut, other.Options.Batch)
        && (Rows.Seed, Rows.BucketRows, Rows.Validation) == (other.Rows.Seed, other.Rows.BucketRows, other.Rows.Validation);

    /// <summary>The item with its id.</summary>
    public static SuiteItem Create(string run, HookPoint site, HookPoint? siteOut, TrainingOptions options, RunRowsOptions rows,
        bool needsPilot)
    {
        var content = new JsonObject
        {
            ["run"] = run,
            ["site"] = site.ToString(),
            ["site_out"] = siteOut?.ToString(),
            ["options"] = JsonNode.Parse(JsonFile.Line(json => OptionsJson.Write(json, options))),
            ["scale"] = options.Scale,
            ["scale_out"] = options.ScaleOut,
            ["bucket"] = rows.BucketRows,
            ["validation"] = rows.Validation,
            ["pilot"] = needsPilot,
        };
        return new SuiteItem
        {
            Run = run,
            Site = site,
            SiteOut = siteOut,
            Options = options,
            Rows = rows,
            NeedsPilot = needsPilot,
            Id = CanonicalJson.Hash(CanonicalJson.Write(content)),
        };
    }
}
