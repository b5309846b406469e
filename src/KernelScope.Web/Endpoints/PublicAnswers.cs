using System.Text.Json;
using System.Text.Json.Serialization;
using KernelScope.Web.Dashboards;
using KernelScope.Web.Serving;

namespace KernelScope.Web.Endpoints;

// Answers of /api. Names and shapes are those that Neuronpedia's Python client reads.

internal sealed class ApiError(string error) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("error", error).Add("message", error).End();
}

internal sealed class PublicSteerAnswer(string steered, string unsteered) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("STEERED", steered)
        .Add("DEFAULT", unsteered)
        .AddNull("steeredLogProbs")
        .AddNull("defaultLogProbs")
        .AddNull("id")
        .AddNull("shareUrl")
        .AddNull("limit")
        .End();
}

internal sealed class SteerSettings(
    double temperature, int tokens, double freqPenalty, double seed, double strengthMultiplier, bool steerSpecialTokens,
    string steerMethod) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("temperature", temperature)
        .Add("n_tokens", tokens)
        .Add("freq_penalty", freqPenalty)
        .Add("seed", seed)
        .Add("strength_multiplier", strengthMultiplier)
        .Add("steer_special_tokens", steerSpecialTokens)
        .Add("steer_method", steerMethod)
        .End();
}

internal sealed class PublicSteerChatAnswer(
    SteerChatOutput steered, SteerChatOutput unsteered, string inputText, SteerSettings settings) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("STEERED", steered)
        .Add("DEFAULT", unsteered)
        .Add("inputText", inputText)
        .Add("settings", settings)
        .AddNull("id")
        .AddNull("shareUrl")
        .AddNull("limit")
        .End();
}

// Rows of features are stored too, and read again: their JSON is the serializer's.

internal sealed record Explanation(string Id, string ModelId, string Layer, string Source, string Index, string Description) : IAnswer
{
    public string? TypeName { get; init; }

    public string? ExplanationModelName { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? Score { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public FeatureRow? Neuron { get; init; }

    public void Write(Utf8JsonWriter json) => JsonSerializer.Serialize(json, this, RowJson.Default.Explanation);
}

internal sealed record ActivationRow(
    string Id, string ModelId, string Layer, string Source, string Index, IReadOnlyList<string> Tokens, IReadOnlyList<double> Values,
    double MaxValue, int MaxValueTokenIndex, double MinValue, double? BinMin, double? BinMax, double? BinContains, int QualifyingTokenIndex)
    : IAnswer
{
    public IReadOnlyList<double> DfaValues { get; init; } = [];

    public int DfaTargetIndex { get; init; } = -1;

    public double DfaMaxValue { get; init; }

    public void Write(Utf8JsonWriter json) => JsonSerializer.Serialize(json, this, RowJson.Default.ActivationRow);
}

/// <summary>A feature as its page shows it. Without statistics the fields that come from a corpus are empty.</summary>
internal sealed record FeatureRow(string ModelId, string Layer, string Source, string Index) : IAnswer
{
    public const double DefaultStrength = 10;

    public string SourceSetName { get; init; } = "";

    public string HookName { get; init; } = "";

    public string CreatorId { get; init; } = "";

    public string? CreatedAt { get; init; }

    [JsonPropertyName("pos_str")]
    public IReadOnlyList<string> PosStr { get; init; } = [];

    [JsonPropertyName("pos_values")]
    public IReadOnlyList<double> PosValues { get; init; } = [];

    [JsonPropertyName("neg_str")]
    public IReadOnlyList<string> NegStr { get; init; } = [];

    [JsonPropertyName("neg_values")]
    public IReadOnlyList<double> NegValues { get; init; } = [];

    [JsonPropertyName("frac_nonzero")]
    public double? FracNonzero { get; init; }

    [JsonPropertyName("freq_hist_data_bar_values")]
    public IReadOnlyList<double> FreqHistValues { get; init; } = [];

    [JsonPropertyName("freq_hist_data_bar_heights")]
    public IReadOnlyList<long> FreqHistHeights { get; init; } = [];

    [JsonPropertyName("logits_hist_data_bar_values")]
    public IReadOnlyList<double> LogitsHistValues { get; init; } = [];

    [JsonPropertyName("logits_hist_data_bar_heights")]
    public IReadOnlyList<long> LogitsHistHeights { get; init; } = [];

    public double? MaxActApprox { get; init; }

    [JsonPropertyName("neuron_alignment_indices")]
    public IReadOnlyList<int> AlignmentIndices { get; init; } = [];

    [JsonPropertyName("neuron_alignment_values")]
    public IReadOnlyList<double> AlignmentValues { get; init; } = [];

    [JsonPropertyName("neuron_alignment_l1")]
    public IReadOnlyList<double> AlignmentL1 { get; init; } = [];

    [JsonPropertyName("correlated_neurons_indices")]
    public IReadOnlyList<int> CorrelatedNeurons { get; init; } = [];

    [JsonPropertyName("correlated_neurons_pearson")]
    public IReadOnlyList<double> CorrelatedNeuronsPearson { get; init; } = [];

    [JsonPropertyName("correlated_neurons_l1")]
    public IReadOnlyList<double> CorrelatedNeuronsL1 { get; init; } = [];

    [JsonPropertyName("correlated_features_indices")]
    public IReadOnlyList<int> CorrelatedFeatures { get; init; } = [];

    [JsonPropertyName("correlated_features_pearson")]
    public IReadOnlyList<double> CorrelatedFeaturesPearson { get; init; } = [];

    [JsonPropertyName("correlated_features_l1")]
    public IReadOnlyList<double> CorrelatedFeaturesL1 { get; init; } = [];

    /// <summary>At <c>z</c>: the share of each head.</summary>
    [JsonPropertyName("decoder_weights_dist")]
    public IReadOnlyList<double> DecoderWeightsDist { get; init; } = [];

    public IReadOnlyList<int> TopkCosSimIndices { get; init; } = [];

    public IReadOnlyList<double> TopkCosSimValues { get; init; } = [];

    public bool HasVector { get; init; }

    public IReadOnlyList<float> Vector { get; init; } = [];

    public string? VectorLabel { get; init; }

    public double VectorDefaultSteerStrength { get; init; } = DefaultStrength;

    public IReadOnlyList<ActivationRow> Activations { get; init; } = [];

    public IReadOnlyList<Explanation> Explanations { get; init; } = [];

    /// <summary>What the fields above cannot say.</summary>
    public FeatureFacts? Kernelscope { get; init; }

    public void Write(Utf8JsonWriter json) => JsonSerializer.Serialize(json, this, RowJson.Default.FeatureRow);
}

/// <summary>Another feature: the rows on which both fire, over those on which one of them does.</summary>
internal sealed record CoFiringFeature(int Index, double Value, long Count);

internal sealed record TokenShare(string Piece, long Count, double Mean);

/// <summary>How much of a feature one document makes up.</summary>
internal sealed record DocumentShare([property: JsonPropertyName("share_of_largest_document")] double ShareOfLargest);

internal sealed record FeatureFacts
{
    [JsonPropertyName("firing_positions")]
    public long FiringPositions { get; init; }

    [JsonPropertyName("counted_positions")]
    public long CountedPositions { get; init; }

    [JsonPropertyName("masked_ids")]
    public IReadOnlyList<int> MaskedIds { get; init; } = [];

    /// <summary>The features of its source, where a server says it: pages lead from one to the next.</summary>
    [JsonPropertyName("feature_count")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? FeatureCount { get; init; }

    public string Dataset { get; init; } = "";

    public string Site { get; init; } = "";

    [JsonPropertyName("site_out")]
    public string? SiteOut { get; init; }

    public string Binning { get; init; } = "quantile";

    /// <summary>The run whose codes were read.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Run { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public ulong? Seed { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Precision { get; init; }

    [JsonPropertyName("bos_policy")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? BosPolicy { get; init; }

    /// <summary>Features of the SAE that are active at a counted position, on average.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? L0 { get; init; }

    public double? Mean { get; init; }

    public IReadOnlyDictionary<string, double> Quantiles { get; init; } = new Dictionary<string, double>();

    [JsonPropertyName("distinct_tokens")]
    public int DistinctTokens { get; init; }

    [JsonPropertyName("top_tokens")]
    public IReadOnlyList<TokenShare> TopTokens { get; init; } = [];

    /// <summary>The features that fire most alike, most alike first.</summary>
    [JsonPropertyName("co_firing")]
    public IReadOnlyList<CoFiringFeature> CoFiring { get; init; } = [];

    /// <summary>In how many windows the peak lies in each eighth of them.</summary>
    [JsonPropertyName("peak_position_histogram")]
    public IReadOnlyList<long> PeakPositions { get; init; } = [];

    [JsonPropertyName("by_document")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public DocumentShare? ByDocument { get; init; }

    [JsonPropertyName("nearest_encoder")]
    public IReadOnlyList<int> NearestEncoder { get; init; } = [];

    [JsonPropertyName("logit_lens")]
    public string LogitLens { get; init; } = "no_norm";

    public bool Dead { get; init; }

    public bool Dense { get; init; }
}

internal sealed class ActivationNewAnswer(
    SingleAnswer single, float minValue, string modelId, string source, string index, string createdAt) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("tokens", single.Tokens)
        .Add("values", single.Activation.Values)
        .Add("maxValue", single.Activation.MaxValue)
        .Add("minValue", minValue)
        .Add("maxValueTokenIndex", single.Activation.MaxValueIndex)
        .Add("modelId", modelId)
        .Add("layer", source)
        .Add("source", source)
        .Add("index", index)
        .Add("createdAt", createdAt)
        .Add("creatorId", "")
        .AddNull("dataIndex")
        .Add("dataSource", "Neuronpedia")
        .AddDfa(single.Activation.Dfa)
        .End();
}

/// <summary>The website answers <c>data</c> alone, and its client reads <c>results</c> alone.</summary>
internal sealed class PublicSourceAnswer(IReadOnlyList<SourceResult> results) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("results", results).Add("data", new BatchAnswer(results)).End();
}

internal sealed class SearchAllRow(string modelId, string source, AllFeature found, FeatureRow neuron) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("modelId", modelId)
        .Add("layer", source)
        .Add("source", source)
        .Add("index", neuron.Index)
        .Add("values", found.Values)
        .Add("maxValue", found.MaxValue)
        .Add("maxValueIndex", found.MaxValueIndex)
        .Add("neuron", neuron)
        .AddDfa(found.Dfa)
        .End();
}

internal sealed class SearchAllAnswer(IReadOnlyList<string> tokens, IReadOnlyList<SearchAllRow> result, IReadOnlyList<int> sortIndexes)
    : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("tokens", tokens)
        .Add("result", result)
        .Add("sortIndexes", sortIndexes)
        .End();
}

internal sealed class SearchTopFeature(int featureIndex, float activationValue, FeatureRow feature) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("featureIndex", featureIndex)
        .Add("activationValue", activationValue)
        .Add("feature", feature)
        .End();
}

internal sealed class SearchToken(int position, string token, bool isSpecial, IReadOnlyList<SearchTopFeature> topFeatures) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("position", position)
        .Add("token", token)
        .Add("isSpecial", isSpecial)
        .Add("topFeatures", topFeatures)
        .End();
}

internal sealed class SearchTopkAnswer(string source, IReadOnlyList<SearchToken> results) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("source", source).Add("results", results).End();
}

internal sealed class SourceRow(string id, string modelId, string setName, string hookName, int features, bool hasDashboards) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("id", id)
        .Add("modelId", modelId)
        .Add("setName", setName)
        .Add("hookName", hookName)
        .Add("features", features)
        .Add("hasDashboards", hasDashboards)
        .Add("inferenceEnabled", true)
        .End();
}

internal sealed class SourceSetAnswer(string name, string modelId, string description, IReadOnlyList<SourceRow> sources, ModelRow? model)
    : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("name", name)
        .Add("modelId", modelId)
        .Add("description", description)
        .Add("urls", new AnswerList([]))
        .Add("sources", sources)
        .AddNull("releases")
        .Add("model", model)
        .End();
}

internal sealed class ModelRow(string id, int layers, IReadOnlyList<SourceSetAnswer>? sourceSets) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("id", id)
        .Add("displayName", id)
        .Add("layers", layers)
        .Add("inferenceEnabled", true)
        .Add("sourceSets", sourceSets, optional: true)
        .End();
}

internal sealed class VectorRow(string modelId, string source, string index, string? label, string hookName, IReadOnlyList<float> vector)
    : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("modelId", modelId)
        .Add("layer", source)
        .Add("source", source)
        .Add("index", index)
        .Add("vectorLabel", label)
        .Add("hookName", hookName)
        .Add("vector", vector)
        .Add("vectorDefaultSteerStrength", FeatureRow.DefaultStrength)
        .End();
}

internal sealed class PublicVectorAnswer(VectorRow vector) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("vector", vector).End();
}

internal sealed class PublicTokenizeAnswer(
    IReadOnlyList<int> tokens, IReadOnlyList<string> tokenStrings, bool prependBos, TokenizeAnswer data) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("tokens", tokens)
        .Add("tokenStrings", tokenStrings)
        .Add("prependBos", prependBos)
        .Add("data", data)
        .End();
}

internal sealed class SearchQuery(string modelId, IReadOnlyList<string> layers, string query, int offset) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("modelId", modelId)
        .Add("layers", layers)
        .Add("query", query)
        .Add("offset", offset)
        .End();
}

internal sealed class ExplanationSearchAnswer(
    SearchQuery request, IReadOnlyList<Explanation> results, bool hasMore, int nextOffset) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("request", request)
        .Add("results", results)
        .Add("resultsCount", results.Count)
        .Add("hasMore", hasMore)
        .Add("nextOffset", nextOffset)
        .End();
}

internal sealed class SteerPreset(string name, string prompt, IReadOnlyList<PresetFeature> features) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields().Add("name", name).Add("prompt", prompt).Add("features", features).End();
}

internal sealed class PresetFeature(string modelId, string layer, int index, double strength) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.Fields()
        .Add("modelId", modelId)
        .Add("layer", layer)
        .Add("index", index)
        .Add("strength", strength)
        .End();
}
