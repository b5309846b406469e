using System.CommandLine;
using System.Globalization;
using KernelScope.Files;
using KernelScope.Hub.Catalog;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary><c>catalog</c>: which SAEs were published.</summary>
internal sealed class CatalogCommand : Verb
{
    private readonly Argument<string[]> _filter = new("FILTER")
    {
        Description = "Words that must occur in the name or the Neuronpedia id.",
        Arity = ArgumentArity.ZeroOrMore
    };
    private readonly Option<string?> _site = new("--site") { Description = "res, mlp, att, transcoder or embedding.", HelpName = "KIND" };
    private readonly Option<int?> _layer = new("--layer") { Description = "A layer.", HelpName = "L" };
    private readonly Option<string?> _width = new("--width") { Description = "A width: 16k, or 16384.", HelpName = "W" };
    private readonly Option<int?> _l0 = new("--l0") { Description = "A stated L0.", HelpName = "N" };
    private readonly Option<bool> _canonical = new("--canonical")
    {
        Description = "Only SAELens' canonical ones: for each layer and " +
        "width the one whose L0 is nearest to 100."
    };

    public CatalogCommand(CommonOptions common, VerbEnvironment environment) : base(
        "catalog",
        "Lists the Gemma Scope SAEs by the names that --sae and 'kernelscope pull' take. The list is compiled in (SAELens' directory " +
        "of October 2025); nothing is asked of a server.\n" +
        "--model is a size or a model here: 2b, 9b, 9b-it, gemma-2-27b, or demo for the SAEs that the program carries.",
        "  kernelscope catalog --model 2b --site res --layer 20 --width 16k\n  kernelscope catalog --model demo",
        common,
        environment)
    {
        Arguments.Add(_filter);
        Options.Add(_site);
        Options.Add(_layer);
        Options.Add(_width);
        Options.Add(_l0);
        Options.Add(_canonical);
    }

    public override CommonUse Uses => CommonUse.Json | CommonUse.Model;

    protected override int Run(ParseResult parsed)
    {
        var filter = new ReleaseFilter
        {
            Text = parsed.GetValue(_filter) is { Length: > 0 } words ? string.Join(' ', words) : null,
            Model = ModelOf(parsed),
            Kind = KindOf(parsed),
            Layer = parsed.GetValue(_layer),
            Width = parsed.GetValue(_width),
            L0 = parsed.GetValue(_l0),
            Canonical = parsed.GetValue(_canonical),
        };
        bool ofDemo = Common.HasModel(parsed) && Common.ModelOf(parsed) == Demo.ModelName;
        CatalogRow[] rows = ofDemo ? [.. Demo.SaeNames.Select(DemoRow).Where(row => Matches(row, filter))]
            : [.. ReleaseCatalog.Find(filter).Select(RowOf)];
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, rows);
        else
            Print(rows);
        if (rows.Length == 0)
            Streams.Error.WriteLine($"Nothing in the catalogue is like that{Nearest(filter)}.");
        return ExitCode.Done;
    }

    /// <summary>What there is once one of the conditions is dropped, or names that are like the words.</summary>
    private static string Nearest(ReleaseFilter filter)
    {
        (string Name, object? Condition, ReleaseFilter Without)[] dropped =
        [
            ("--width", filter.Width, filter with { Width = null }), ("--l0", filter.L0, filter with { L0 = null }),
            ("--layer", filter.Layer, filter with { Layer = null }),
            ("--site", filter.Kind, filter with { Kind = null }), ("--canonical", filter.Canonical ? true : null,
                filter with { Canonical = false }), ("--model", filter.Model, filter with { Model = null }),
        ];
        string[] left = [.. dropped.Where(d => d.Condition is not null)
            .Select(d => (d.Name, Found: ReleaseCatalog.Find(d.Without).ToArray())).Where(d => d.Found.Length > 0)
            .Select(d => $"without {d.Name} there are {d.Found.Length}, such as {d.Found[0].Name}")];
        if (left.Length > 0)
            return $"; {string.Join("; ", left)}";
        return filter.Text is string text ? $"; near it: {string.Join(", ", ReleaseCatalog.Near(text))}" : "";
    }

    // The option is everybody's, and its default is the demo.
    private string? ModelOf(ParseResult parsed)
    {
        string model = Common.ModelOf(parsed);
        if (model == Demo.ModelName)
            return null;
        return ReleaseCatalog.Find(new ReleaseFilter { Model = model }).Any() ? model
            : throw new UsageException($"the catalogue has no SAEs of the model '{Printable.Escape(model)}'; it has 2b, 9b (9b-pt, " +
            "9b-it) and 27b.");
    }

    private ReleaseKind? KindOf(ParseResult parsed) => KindOf(parsed.GetValue(_site));

    private static ReleaseKind? KindOf(string? word) => word switch
    {
        null => null,
        "res" or "resid_post" => ReleaseKind.Residual,
        "mlp" or "mlp_out_post" => ReleaseKind.Mlp,
        "att" or "z" => ReleaseKind.Attention,
        "transcoder" or "mlp_in_unit" => ReleaseKind.Transcoder,
        "embedding" => ReleaseKind.Embedding,
        string other => throw new UsageException($"--site is '{Printable.Escape(other)}'; the catalogue has res, mlp, att, transcoder " +
            "and embedding."),
    };

    /// <summary>An SAE that the program carries; its name says what it is: <c>res.3.2k.l0_19</c>.</summary>
    private static CatalogRow DemoRow(string name)
    {
        string[] parts = name.Split('.');
        using SaeCheckpoint sae = Demo.OpenSae(name);
        SaeConfig config = sae.Config;
        int layer = int.Parse(parts[1], CultureInfo.InvariantCulture);
        string hook = KindOf(parts[0]) switch
        {
            ReleaseKind.Residual => "hook_resid_post",
            ReleaseKind.Mlp => "hook_mlp_out",
            ReleaseKind.Attention => "attn.hook_z",
            _ => "ln2.hook_normalized",
        };
        return new CatalogRow(
            name,
            Demo.ModelName,
            name,
            Demo.ModelName,
            config.Site,
            config.IsTranscoder ? config.SiteOut : config.Site,
            $"blocks.{parts[1]}.{hook}",
            layer,
            parts[2],
            int.Parse(parts[3].AsSpan(3), CultureInfo.InvariantCulture),
            Canonical: false,
            CanonicalId: null,
            NeuronpediaId: null,
            config.InputDim,
            config.FeatureCount,
            config.OutputDim,
            sae.TotalBytes,
            Cached: null);
    }

    private static bool Matches(CatalogRow row, ReleaseFilter filter) =>
        !filter.Canonical
        && (filter.Kind is null || KindOf(row.Name.Split('.')[0]) == filter.Kind)
        && (filter.Layer is null || row.Layer == filter.Layer)
        && (filter.Width is null || row.Width == filter.Width || row.FeatureCount.ToString(CultureInfo.InvariantCulture) == filter.Width)
        && (filter.L0 is null || row.L0 == filter.L0)
        && (filter.Text is null || filter.Text.Split(' ').All(word => row.Name.Contains(word, StringComparison.OrdinalIgnoreCase)));

    private static CatalogRow RowOf(ReleasedSae sae) => new(
        sae.Name,
        sae.Repository,
        sae.File,
        sae.Model,
        sae.Site?.ToString(),
        sae.SiteOut?.ToString(),
        sae.HookName,
        sae.Layer < 0 ? null : sae.Layer,
        sae.WidthName,
        sae.L0,
        sae.IsCanonical,
        sae.CanonicalId,
        sae.NeuronpediaId,
        sae.InputDim,
        sae.FeatureCount,
        sae.OutputDim,
        sae.ParameterBytes,
        HubCache.FindFile(sae.Repository, sae.File, Environment.GetEnvironmentVariable));

    private void Print(CatalogRow[] rows)
    {
        int width = rows.Length == 0 ? 0 : rows.Max(r => r.Name.Length);
        foreach (CatalogRow row in rows)
        {
            string marks = (row.Canonical ? "  canonical" : "") + (row.Cached is null ? "" : "  in the cache");
            Streams.Output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{row.Name.PadRight(width)}  {row.Model,-14} {row.Site ?? "-",-15} {row.InputDim,5} " +
                $"x {row.FeatureCount,-8} {ByteText.Of(row.Bytes),7}{marks}"));
        }

        Streams.Output.Flush();
    }
}
