using KernelScope.Devices;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Tests.Model;

/// <summary>One golden of fixtures/gemma2/models on one device, whole or with a mistake built in.</summary>
internal sealed class GoldenRun : IDisposable
{
    private readonly Device _device;
    private readonly Gemma2Model _model;

    public GoldenRun(string deviceName, string name, string suffix)
        : this(TestDevices.Open(deviceName), name, suffix, deviceName == "reference")
    {
    }

    /// <param name="modelFolder">A model with a mistake built in; null: the golden's own.</param>
    public GoldenRun(Device device, string name, string suffix, bool doubles, string? modelFolder = null, EmbeddingScale scale = default)
    {
        string folder = Fixtures.Path("gemma2", "models", name);
        _device = device;
        _model = Gemma2Model.Load(_device, Gemma2Checkpoint.Open(modelFolder ?? folder), scale);
        Tokens = Fixtures.Tokens(Path.Combine(folder, $"tokens{suffix}.json"));
        Expected = new NpzArrays(Path.Combine(folder, $"expected{suffix}.npz"));
        LooseLimit = doubles ? 5e-5 : 1e-4;
    }

    public int[] Tokens { get; }

    public NpzArrays Expected { get; }

    public double LooseLimit { get; }

    public Session NewSession(int chunk = 0) => _model.NewSession(chunkLength: chunk == 0 ? Math.Max(1, Tokens.Length) : chunk);

    /// <summary>Every array of the forward pass: its largest departure over its largest value, and the limit.</summary>
    public IEnumerable<(string Array, double Error, double Limit)> Departures()
    {
        using Session session = NewSession();
        using var cache = new ActivationCache(session.Hooks, HookPoint.All(_model.Config.LayerCount), Tokens.Length);
        session.Prefill(Tokens);
        int compared = 0;
        foreach (HookPoint point in cache.Points)
        {
            double limit = point.Site == Site.Embed ? 1e-6 : LooseLimit;
            yield return (point.ToString(), Compare.Relative(cache.Values(point), Expected.Floats(point.ToString())), limit);
            compared++;
        }

        Assert.Equal(Expected.Names.Count(n => HookPoint.TryParse(n, out _)), compared);
        // A loss moves as its logits do, so it is held to the logits' limit, of the largest logit.
        double largest = Expected.Floats("logits").Max(Math.Abs);
        double[] expectedLoss = Expected.Doubles("next_token_loss");
        double[] losses = new double[Tokens.Length - 1];
        if (losses.Length == 0)
            yield break;
        _model.NextTokenLoss(Tokens.AsSpan(1), session, losses);
        yield return ("next_token_loss", losses.Zip(expectedLoss, (a, b) => Math.Abs(a - b)).Max() / largest, LooseLimit);
        cache.Dispose();
        session.Reset();
        session.Prefill(Tokens);
        _model.NextTokenLoss(Tokens.AsSpan(1), session, losses);
        yield return ("next_token_loss without logits", losses.Zip(expectedLoss, (a, b) => Math.Abs(a - b)).Max() / largest, LooseLimit);
    }

    /// <summary>Cached greedy decoding that no end-of-text id stops, with the logits that chose each token.</summary>
    public (int[] Tokens, float[][] Logits) Greedy(int count, int chunk = 0)
    {
        using Session session = NewSession(chunk);
        int[] tokens = new int[count];
        float[][] logits = new float[count][];
        Mat row = session.Prefill(Tokens);
        using var sampler = new Sampler(_device, _model.Config.VocabSize, new SamplingOptions());
        for (int i = 0; i < count; i++)
        {
            logits[i] = new float[_model.Config.VocabSize];
            _device.Read(row, logits[i]);
            tokens[i] = sampler.Next(row);
            if (i + 1 < count)
                row = _model.Forward([tokens[i]], session);
        }

        return (tokens, logits);
    }

    public void Dispose()
    {
        Expected.Dispose();
        _model.Dispose();
        _device.Dispose();
    }
}
