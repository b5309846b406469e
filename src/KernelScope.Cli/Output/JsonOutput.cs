using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace KernelScope.Cli;

/// <summary>
/// Writes a result as one JSON document and a line end: snake_case, shortest numbers that read back to the same bits, non-ASCII letters as
/// they are.
/// </summary>
internal static class JsonOutput
{
    private static readonly ResultContext Context =
        new(new JsonSerializerOptions(ResultContext.Default.Options) { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });

    /// <summary>Writes to standard output.</summary>
    public static void Write<T>(Streams streams, T result)
    {
        var type = (JsonTypeInfo<T>)Context.GetTypeInfo(typeof(T))!;
        streams.Output.Flush();
        JsonSerializer.Serialize(streams.OutputBytes, result, type);
        streams.OutputBytes.Write("\n"u8);
        streams.OutputBytes.Flush();
    }

    /// <summary>Reads a document that <see cref="Write"/> wrote; numbers that are null there are NaN here.</summary>
    /// <exception cref="JsonException">It is another.</exception>
    public static T? Parse<T>(string json)
        where T : class => JsonSerializer.Deserialize(json, (JsonTypeInfo<T>)Context.GetTypeInfo(typeof(T))!);

    /// <summary>The document on one line, as text.</summary>
    public static string Line<T>(T result) => JsonSerializer.Serialize(result, (JsonTypeInfo<T>)Context.GetTypeInfo(typeof(T))!);
}

/// <summary>JSON has no NaN and no infinities; they are null.</summary>
internal sealed class FiniteSingleConverter : JsonConverter<float>
{
    public override float Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.GetSingle();

    public override void Write(Utf8JsonWriter writer, float value, JsonSerializerOptions options)
    {
        if (float.IsFinite(value))
            writer.WriteNumberValue(value);
        else
            writer.WriteNullValue();
    }
}

/// <inheritdoc cref="FiniteSingleConverter"/>
internal sealed class FiniteDoubleConverter : JsonConverter<double>
{
    /// <summary>Null comes here too.</summary>
    public override bool HandleNull => true;

    public override double Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        reader.TokenType == JsonTokenType.Null ? double.NaN : reader.GetDouble();

    public override void Write(Utf8JsonWriter writer, double value, JsonSerializerOptions options)
    {
        if (double.IsFinite(value))
            writer.WriteNumberValue(value);
        else
            writer.WriteNullValue();
    }
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    GenerationMode = JsonSourceGenerationMode.Metadata,
    Converters = [typeof(FiniteSingleConverter), typeof(FiniteDoubleConverter)])]
[JsonSerializable(typeof(FeaturesResult))]
[JsonSerializable(typeof(SeveralFeaturesResult))]
[JsonSerializable(typeof(TextsResult<FeaturesResult>))]
[JsonSerializable(typeof(TextsResult<SeveralFeaturesResult>))]
[JsonSerializable(typeof(TextsResult<RunResult>))]
[JsonSerializable(typeof(SeveralTopResult))]
[JsonSerializable(typeof(GenerateResult))]
[JsonSerializable(typeof(SweepResult))]
[JsonSerializable(typeof(RunResult))]
[JsonSerializable(typeof(TokenizeResult))]
[JsonSerializable(typeof(TextResult))]
[JsonSerializable(typeof(EncodeResult))]
[JsonSerializable(typeof(List<InspectedPath>))]
[JsonSerializable(typeof(DoctorResult))]
[JsonSerializable(typeof(CatalogRow[]))]
[JsonSerializable(typeof(PullResult))]
[JsonSerializable(typeof(PackResult))]
[JsonSerializable(typeof(ExportResult))]
[JsonSerializable(typeof(List<PackedRow>))]
[JsonSerializable(typeof(AttributeResult))]
[JsonSerializable(typeof(VerifyResult))]
[JsonSerializable(typeof(LensResult))]
[JsonSerializable(typeof(FeatureLensResult))]
[JsonSerializable(typeof(DiffResult))]
[JsonSerializable(typeof(TopResult))]
[JsonSerializable(typeof(BenchResult))]
[JsonSerializable(typeof(KernelsResult))]
[JsonSerializable(typeof(HarvestResult))]
[JsonSerializable(typeof(PlanResult))]
[JsonSerializable(typeof(WorkResult))]
[JsonSerializable(typeof(StatusResult))]
[JsonSerializable(typeof(MergeResult))]
[JsonSerializable(typeof(TrainResult))]
[JsonSerializable(typeof(SuiteOutcome))]
[JsonSerializable(typeof(DashResult))]
[JsonSerializable(typeof(DashFolderResult))]
[JsonSerializable(typeof(LabelsImportResult))]
[JsonSerializable(typeof(LabelsSearchResult))]
[JsonSerializable(typeof(ServeExportResult))]
[JsonSerializable(typeof(ServeResult))]
internal sealed partial class ResultContext : JsonSerializerContext;
