using KernelScope.Evaluation;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Training.Runs;
using KernelScope.Web.Dashboards;
using KernelScope.Web.Endpoints;
using KernelScope.Web.Sources;

namespace KernelScope.Cli;

/// <summary>What pages of a folder are made from.</summary>
/// <param name="Files">The model.</param>
/// <param name="Sae">The SAE.</param>
/// <param name="Folder">The run.</param>
/// <param name="Plan">Its plan.</param>
/// <param name="Record">The run's codes of the SAE.</param>
/// <param name="Labels">Labels of features.</param>
/// <param name="Options">How examples are chosen.</param>
internal sealed record DashboardInputs(
    ModelFiles Files, SaeFiles Sae, RunFolder Folder, RunPlan Plan, SaeRecord Record, FeatureLabels Labels,
    FeatureStatisticsOptions Options);

/// <summary>
/// Pages of many features of an SAE in a folder, from the codes of a run. Features are independent of each other and are written in order,
/// so the number of threads changes no byte.
/// </summary>
internal sealed class FolderDashboards(DashboardInputs inputs, int threads, CancellationToken cancellation)
{
    /// <summary>Tokens of a window.</summary>
    public const int Window = 128;

    /// <summary>Features whose directions are one product.</summary>
    private const int Block = 64;

    /// <summary>Features whose examples the model reads in one pass over the run: what each token gave is 0.5 kB an example until it is written.</summary>
    private const int Pass = 16_384;

    private const int Listed = 10;

    private string ModelId => LabelOption.ModelId(inputs.Files);

    private string SourceId => SourceName.Of(inputs.Sae);

    /// <summary>Makes the pages.</summary>
    /// <param name="path">The folder.</param>
    /// <param name="features">Which, ascending.</param>
    /// <param name="model">The model, for logits.</param>
    /// <param name="sae">The SAE.</param>
    /// <param name="exports">What is written besides.</param>
    /// <param name="streams">Where progress goes.</param>
    public DashFolderResult Write(
        string path, int[] features, Gemma2Model model, JumpReluSae sae, DashboardExports exports, Streams streams)
    {
        long dead = 0, dense = 0;
        using DashboardWriter writer = DashboardWriter.Create(path, Info(), exports, model.Config.LayerCount, model.Config.MlpDim);
        using RunFeatures run = Read(writer.Scratch, streams);
        RowNames source = Source();
        var directions = new FeatureDirections(model, sae, inputs.Sae.HasSiteOut ? inputs.Sae.SiteOut : null, cancellation);
        for (int pass = 0; pass < features.Length; pass += Pass)
        {
            int[] part = features[pass..Math.Min(pass + Pass, features.Length)];
            DirectAttribution[][] sources = Sources(run, part, model, sae, streams);
            using var progress = new Progress(streams, "Writing pages");
            for (int done = 0; done < part.Length; done += Block)
            {
                int first = done;
                int[] block = part[done..Math.Min(done + Block, part.Length)];
                FeatureDirection[] of = directions.Of(block, Listed);
                var packed = new PackedFeature[block.Length];
                Parallel.For(0, block.Length, Threads, i => packed[i] = Pack(source, run, of[i], sources[first + i], exports));
                foreach (PackedFeature feature in packed)
                {
                    writer.Add(feature);
                    dead += feature.Firing == 0 ? 1 : 0;
                    dense += feature.Firing > 0.1 * run.Counted ? 1 : 0;
                }

                progress.Report((pass + done + block.Length) / (double)features.Length);
            }
        }

        // The codes by feature are not part of what is kept.
        run.Dispose();
        long bytes = writer.Commit();
        return new DashFolderResult(
            path, inputs.Files.Name, inputs.Sae.Name, SourceId, inputs.Plan.Id, run.Counted, features.Length, dead, dense, bytes);
    }

    private ParallelOptions Threads => new() { MaxDegreeOfParallelism = threads, CancellationToken = cancellation };

    /// <summary>For an attention SAE, from which tokens the examples of some features have their activations; empty for others.</summary>
    private DirectAttribution[][] Sources(RunFeatures run, int[] features, Gemma2Model model, JumpReluSae sae, Streams streams)
    {
        var questions = new ExampleSources.Question[features.Length][];
        Array.Fill(questions, []);
        if (SourceAttribution.IsFor(inputs.Sae.Site))
        {
            Parallel.For(0, features.Length, Threads, i =>
                questions[i] = [.. ExampleSources.QuestionsOf(StatisticsOf(run, features[i], run.Of(features[i]).Places))]);
        }

        ExampleSources.Question[] all = [.. questions.SelectMany(q => q)];
        if (all.Length == 0)
            return Array.ConvertAll(questions, _ => Array.Empty<DirectAttribution>());
        using var progress = new Progress(streams, "Reading attention");
        DirectAttribution[] answers = ExampleSources.Read(model, sae, inputs.Sae.Site, run.Tokens, all, threads, progress, cancellation);
        int next = 0;
        return Array.ConvertAll(questions, q =>
        {
            next += q.Length;
            return answers[(next - q.Length)..next];
        });
    }

    private FeatureStatistics StatisticsOf(RunFeatures run, int feature, FeaturePlace[] places) =>
        FeatureStatistics.Of(feature, places, run.Counted, run.Tokens, inputs.Options, run.Documents);

    private RunFeatures Read(string scratch, Streams streams)
    {
        using var progress = new Progress(streams, "Reading codes");
        return RunFeatures.Open(inputs.Folder, inputs.Plan, inputs.Record, inputs.Files.Config, scratch, progress, cancellation);
    }

    private PackedFeature Pack(
        RowNames source, RunFeatures run, FeatureDirection direction, DirectAttribution[] sources, DashboardExports exports)
    {
        int index = direction.Feature;
        (FeaturePlace[] places, RelatedFeature[] coFiring) = run.Of(index);
        FeatureStatistics statistics =
            (StatisticsOf(run, index, places) with { CoFiring = coFiring }).WithSources(new(sources));
        FeatureRow row = FeatureRows.WithDirection(source, FeatureRows.Short(source, index), direction);
        row = FeatureRows.WithStatistics(source, row, statistics, run.Tokens.SpecialIds, Dataset);
        row = row with
        {
            Explanations = [.. inputs.Labels.Of(ModelId, SourceId, index).Select(FeatureRows.Explanation)],
            // As exported files have the strongest: in no bin.
            Activations = [.. row.Activations.Select(a => a.BinContains is null
                ? a with { BinMin = -1, BinMax = statistics.Max, BinContains = -1 } : a)],
            Kernelscope = row.Kernelscope! with
            {
                Run = inputs.Plan.Id,
                Seed = inputs.Options.Seed,
                Precision = inputs.Plan.Precision,
                BosPolicy = RunPlan.BosPolicy,
                L0 = run.L0,
            },
        };
        return PackedFeature.Create(index, row, statistics.Max, exports);
    }

    private string Dataset => $"{inputs.Plan.TokensSource} (run {inputs.Plan.Id[..12]})";

    private RowNames Source() => new(
        ModelId, SourceId, SourceSet, ServedSource.TransformerLensName(inputs.Sae.Site), inputs.Sae.Site.ToString(),
        inputs.Sae.HasSiteOut ? inputs.Sae.SiteOut.ToString() : null, Piece, Piece);

    private string SourceSet => ServedSource.SetOf(SourceId);

    private string Piece(int id) => inputs.Files.Tokenizer is { } tokenizer && tokenizer.Contains(id) ? tokenizer.Piece(id) : $"<{id}>";

    private DashboardInfo Info() => new()
    {
        Model = inputs.Files.Name,
        ModelId = ModelId,
        Source = SourceId,
        SourceSet = SourceSet,
        Sae = inputs.Record.Name,
        SaeSha256 = inputs.Record.Sha256,
        Site = inputs.Sae.Site.ToString(),
        SiteOut = inputs.Sae.HasSiteOut ? inputs.Sae.SiteOut.ToString() : null,
        HookName = ServedSource.TransformerLensName(inputs.Sae.Site),
        Layer = inputs.Sae.Site.Layer,
        Features = inputs.Sae.Config.FeatureCount,
        Written = 0,
        Run = inputs.Plan.Id,
        Dataset = Dataset,
        CountedPositions = inputs.Plan.Rows,
        Positions = inputs.Plan.TokenCount,
        Sequences = (int)Math.Min(inputs.Plan.Sequences, int.MaxValue),
        MaskedIds = inputs.Plan.ExcludedIds,
        BosPolicy = RunPlan.BosPolicy,
        Precision = inputs.Plan.Precision,
        Binning = inputs.Options.Binning == ExampleBinning.Quantile ? "quantile" : "saedashboard",
        Window = Math.Min(inputs.Options.Window, inputs.Plan.Context),
        Top = inputs.Options.Top,
        Examples = inputs.Options.Examples,
        Seed = inputs.Options.Seed,
        Version = inputs.Plan.CodeVersion,
    };
}
