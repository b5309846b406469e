using System.Globalization;
using System.IO.Compression;
using System.Text;
using System.Text.Json.Nodes;

namespace KernelScope.Web.Dashboards;

/// <summary>
/// The files that Neuronpedia's import reads: <c>{model}/{source}/release.jsonl</c>, <c>model.jsonl</c>, <c>sourceset.jsonl</c>,
/// <c>source.jsonl</c>, and features and their examples in batches of 128 features. Lines have columns of its tables only; dates are left
/// to its defaults.
/// </summary>
/// <remarks>For one caller at a time.</remarks>
internal sealed class NeuronpediaExport : IDisposable
{
    private const int Batch = 128;
    private const string Author = "KernelScope", Public = "PUBLIC";
    private readonly string _folder;
    private GZipStream? _features;
    private GZipStream? _examples;
    private int _count;

    /// <param name="modelFolder">The model's folder.</param>
    /// <param name="info">What it is of.</param>
    /// <param name="layers">The model's.</param>
    /// <param name="width">Neurons of a layer.</param>
    public NeuronpediaExport(string modelFolder, DashboardInfo info, int layers, int width)
    {
        _folder = Path.Combine(modelFolder, info.Source);
        Directory.CreateDirectory(Path.Combine(_folder, "features"));
        Directory.CreateDirectory(Path.Combine(_folder, "activations"));
        string release = $"{info.ModelId}-{info.SourceSet}";
        WriteLine("release.jsonl", new JsonObject
        {
            ["name"] = release,
            ["description"] = $"Dashboards of {info.Sae}",
            ["descriptionShort"] = info.Sae,
            ["urls"] = new JsonArray(),
            ["creatorName"] = Author,
            ["creatorId"] = PackedFeature.Creator,
            ["visibility"] = Public,
        });
        WriteLine("model.jsonl", new JsonObject
        {
            ["id"] = info.ModelId,
            ["displayName"] = info.Model,
            ["displayNameShort"] = info.ModelId,
            ["creatorId"] = PackedFeature.Creator,
            ["layers"] = layers,
            ["neuronsPerLayer"] = width,
            ["owner"] = Author,
            ["visibility"] = Public,
        });
        WriteLine("sourceset.jsonl", new JsonObject
        {
            ["modelId"] = info.ModelId,
            ["name"] = info.SourceSet,
            ["description"] = $"SAEs of {info.SourceSet}",
            ["type"] = "",
            ["creatorName"] = Author,
            ["urls"] = new JsonArray(),
            ["creatorId"] = PackedFeature.Creator,
            ["releaseName"] = release,
            ["hasDashboards"] = true,
            ["allowInferenceSearch"] = true,
            ["visibility"] = Public,
        });
        WriteLine("source.jsonl", new JsonObject
        {
            ["id"] = info.Source,
            ["modelId"] = info.ModelId,
            ["setName"] = info.SourceSet,
            ["hasDashboards"] = true,
            ["inferenceEnabled"] = false,
            ["creatorId"] = PackedFeature.Creator,
            ["visibility"] = Public,
            ["num_prompts"] = info.Sequences,
            ["num_tokens_in_prompt"] = info.Window,
            ["dataset"] = info.Dataset,
            ["notes"] = $"KernelScope {info.Version}, run {info.Run}",
        });
    }

    /// <summary>Adds a feature.</summary>
    public void Add(PackedFeature feature)
    {
        if (_count % Batch == 0)
        {
            Finish();
            string name = string.Create(CultureInfo.InvariantCulture, $"batch-{_count / Batch}.jsonl.gz");
            _features = Open("features", name);
            _examples = Open("activations", name);
        }

        _count++;
        _features!.Write(feature.FeatureLine);
        _examples!.Write(feature.ExampleLines);
    }

    /// <summary>Ends the batch under way.</summary>
    public void Finish()
    {
        _features?.Dispose();
        _examples?.Dispose();
    }

    public void Dispose() => Finish();

    private GZipStream Open(string folder, string name) =>
        new(new FileStream(Path.Combine(_folder, folder, name), FileMode.CreateNew), CompressionLevel.Optimal);

    private void WriteLine(string name, JsonObject line) =>
        File.WriteAllText(Path.Combine(_folder, name), line.ToJsonString() + "\n", new UTF8Encoding(false));
}
