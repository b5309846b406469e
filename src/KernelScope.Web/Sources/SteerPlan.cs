using System.Text;
using System.Text.Json;
using KernelScope.Devices;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Runtime;
using KernelScope.Sae;
using KernelScope.Web.Contract;
using KernelScope.Web.Endpoints;

namespace KernelScope.Web.Sources;

/// <summary>What a steer request asks for: a prompt, edits, and how to go on with and without them.</summary>
internal sealed class SteerPlan
{
    private const int MaxEdits = 16, MaxLogprobs = 10;

    private readonly ServedModel _model;
    private readonly List<SaeEdit> _edits = [];
    private readonly List<VectorEdit> _vectors = [];

    private SteerPlan(ServedModel model) => _model = model;

    public const string Steered = "STEERED", Default = "DEFAULT";

    public required GenerationOptions Options { get; init; }

    public required int Logprobs { get; init; }

    public required string Method { get; init; }

    public required bool Normalize { get; init; }

    public required double Multiplier { get; init; }

    /// <summary>Where edits act.</summary>
    public Positions Where { get; init; } = Positions.All;

    /// <summary>The plan of a body of <c>/v1/steer</c>, whose edits are <c>features</c> or <c>vectors</c>.</summary>
    public static SteerPlan OfInference(ServedModel model, JsonElement body, Positions where, IReadOnlyCollection<int>? stopIds)
    {
        int logprobs = body.Whole("nLogprobs") ?? 0;
        SteerPlan plan = Create(
            model, body, body.RequiredWhole("nCompletionTokens"), Math.Clamp(logprobs, 0, MaxLogprobs), body.RequiredText("steerMethod"),
            body.Flag("normalizeSteering") ?? false, body.RequiredNumber("strengthMultiplier"), where, stopIds);
        bool hasFeatures = body.TryField("features", out _), hasVectors = body.TryField("vectors", out _);
        bool steers = body.Texts("types").Contains(Steered);
        if (hasFeatures && hasVectors || steers && !hasFeatures && !hasVectors)
            throw Refusal.Bad("Invalid request data: exactly one of features or vectors must be provided");
        RequireFew(body, "features");
        RequireFew(body, "vectors");
        foreach (JsonElement feature in body.Entries("features"))
        {
            ServedSource source = model.Source(feature.RequiredText("source"));
            int index = ServedModel.Feature(source, feature.RequiredWhole("index"));
            if (feature.TryField("steeringVector", out _))
                plan.Add(SiteOf(source), feature.Vector("steeringVector"), feature.RequiredNumber("strength"));
            else
                plan.Add(source, index, feature.RequiredNumber("strength"));
        }

        foreach (JsonElement vector in body.Entries("vectors"))
        {
            HookPoint point = ActivationEndpoints.Point(vector.RequiredText("hook"));
            plan.Add(point, vector.Vector("steeringVector"), vector.RequiredNumber("strength"));
        }

        return plan;
    }

    /// <summary>The plan of a body of <c>/api/steer</c>.</summary>
    public static SteerPlan OfPublic(ServedModel model, JsonElement body, Positions where, IReadOnlyCollection<int>? stopIds)
    {
        SteerPlan plan = Create(
            model, body, body.RequiredWhole("n_tokens"), 0, body.Text("steer_method") ?? "SIMPLE_ADDITIVE", false,
            body.RequiredNumber("strength_multiplier"), where, stopIds);
        RequireFew(body, "features");
        foreach (JsonElement feature in body.Entries("features"))
        {
            (ServedSource source, int index) = model.Named(feature);
            plan.Add(source, index, feature.RequiredNumber("strength"));
        }

        return plan;
    }

    /// <summary>Begins to continue a prompt, with the edits or without. Whatever is wrong with the request is thrown here.</summary>
    public IAsyncEnumerable<GeneratedToken> Generate(int[] prompt, bool steered, CancellationToken cancellationToken)
    {
        if (prompt.Length + Options.MaxNewTokens > _model.Engine.ContextLength)
            throw Refusal.Bad(_model.TooLong(prompt.Length, Options.MaxNewTokens));
        return _model.Engine.GenerateAsync(
            new GenerationRequest
            {
                PromptTokens = prompt,
                Options = Options,
                Edits = steered ? _edits : [],
                Vectors = steered ? _vectors : [],
            },
            cancellationToken);
    }

    private static SteerPlan Create(
        ServedModel model, JsonElement body, int newTokens, int logprobs, string method, bool normalize, double multiplier, Positions where,
        IReadOnlyCollection<int>? stopIds)
    {
        if (newTokens < 1 || newTokens > model.Options.MaxNewTokens)
            throw Refusal.Bad($"{newTokens} new tokens were asked for; it must be 1 to {model.Options.MaxNewTokens}.");
        double temperature = body.RequiredNumber("temperature"), seed = body.RequiredNumber("seed");
        return new SteerPlan(model)
        {
            Options = new GenerationOptions
            {
                MaxNewTokens = newTokens,
                Sampling = temperature == 0 ? new SamplingOptions() : new SamplingOptions { Temperature = temperature, Seed = Seed(seed) },
                StopIds = stopIds,
                LogProbs = logprobs > 0 ? logprobs : null,
            },
            Logprobs = logprobs,
            Method = method,
            Normalize = normalize,
            Multiplier = multiplier,
            Where = where,
        };
    }

    /// <exception cref="Refusal">It has more than 64 bits.</exception>
    public static ulong Seed(double seed) => seed is >= long.MinValue and < long.MaxValue ? unchecked((ulong)(long)seed)
        : throw Refusal.Bad("seed must lie within the signed integers of 64 bits.", "seed");

    private static void RequireFew(JsonElement body, string name)
    {
        if (body.Entries(name).Count() is int count and > MaxEdits)
            throw Refusal.Bad($"{name} has {count} entries; at most {MaxEdits} are taken.", name);
    }

    private static HookPoint SiteOf(ServedSource source) =>
        source.Sae.SiteOut ?? throw Refusal.Bad($"Nothing says where the transcoder {source.Id} writes, so it cannot be steered.");

    private void Add(ServedSource source, int feature, double strength)
    {
        float[] row = source.Sae.Sae.DecoderRow(feature);
        if (Method != "SIMPLE_ADDITIVE")
        {
            Add(SiteOf(source), row, strength);
            return;
        }

        double norm = Normalize ? ServedSource.Norm(row) : 1;
        var edit = FeatureEdit.Steer(feature, Finite(norm == 0 ? 0 : Multiplier * strength / norm));
        _edits.Add(new SaeEdit { Sae = source.Sae.Name, Features = [edit], Positions = Where });
    }

    private void Add(HookPoint point, float[] direction, double strength)
    {
        bool adds = Method == "SIMPLE_ADDITIVE";
        double norm = adds && Normalize ? ServedSource.Norm(direction) : 1;
        _vectors.Add(new VectorEdit
        {
            Point = point,
            Direction = direction,
            Strength = Finite(norm == 0 ? 0 : Multiplier * strength / norm),
            Method = adds ? VectorMethod.Add : Method == "PROJECTION_CAP" ? VectorMethod.CapProjection : VectorMethod.ScaleProjection,
            Positions = Where,
        });
    }

    private static float Finite(double value) => float.IsFinite((float)value) ? (float)value
        : throw Refusal.Bad("A strength times strengthMultiplier is not a finite float32 number.");
}

/// <summary>A text while it is written.</summary>
internal sealed class GrowingText(ServedModel model)
{
    private readonly StringBuilder _text = new();
    private readonly List<Logprob> _logprobs = [];

    public string Text => _text.ToString();

    public int Count { get; private set; }

    public StopReason Stop { get; private set; }

    /// <summary>One entry for each token; null unless they were asked for.</summary>
    public IReadOnlyList<Logprob>? Logprobs => _logprobs.Count > 0 ? [.. _logprobs] : null;

    public void Add(GeneratedToken token)
    {
        _text.Append(token.Text);
        Count++;
        Stop = token.Stop;
        if (token.LogProb is double own)
        {
            LogprobTop[] top = [.. (token.Top ?? []).Select(t => new LogprobTop(model.TokenText(t.Id), t.LogProb))];
            _logprobs.Add(new Logprob(model.TokenText(token.Id), own, top));
        }
    }
}
