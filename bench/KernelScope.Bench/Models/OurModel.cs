using KernelScope.Devices;
using KernelScope.Generation;
using KernelScope.Model;

namespace KernelScope.Bench.Models;

/// <summary>A model with a session and a sampler, as a program that generates has them. The tokens are given, so that all who are compared read the same ones.</summary>
internal sealed class OurModel : IDisposable
{
    private readonly Gemma2Model _model;
    private readonly Session _session;
    private readonly Sampler _sampler;
    private readonly int[] _step = new int[1];
    private Mat _logits;

    /// <summary>Loads a checkpoint, and owns it from here on.</summary>
    public OurModel(Device device, Gemma2Checkpoint checkpoint, int context)
    {
        _model = Gemma2Model.Load(device, checkpoint);
        _session = _model.NewSession(context);
        _sampler = new Sampler(device, _model.Config.VocabSize, new SamplingOptions());
    }

    /// <summary>Bytes of the packed weights; null: they are not packed.</summary>
    public long? PackedBytes => _model.Weights.Head.IsPacked
        ? _model.Weights.Head.ProductBytes
            + _model.Weights.Layers.Sum(l => l.Qkv.ProductBytes + l.O.ProductBytes + l.GateUp.ProductBytes + l.Down.ProductBytes)
        : null;

    /// <summary>Number of tokens fed so far.</summary>
    public int Position => _session.Position;

    /// <summary>Feeds tokens one by one, and after each takes the largest logit as a greedy generator does.</summary>
    /// <returns>What it would have said last.</returns>
    public int Decode(ReadOnlySpan<int> tokens, CancellationToken cancellation = default)
    {
        int next = 0;
        foreach (int token in tokens)
        {
            _step[0] = token;
            _logits = _model.Forward(_step, _session, LogitRows.Last, cancellation);
            next = _sampler.Next(_logits);
        }

        return next;
    }

    /// <summary>Feeds a prompt from position 0 in the chunks in which a session does.</summary>
    public void Prefill(ReadOnlySpan<int> tokens, CancellationToken cancellation = default)
    {
        _session.Reset();
        _logits = _session.Prefill(tokens, cancellationToken: cancellation);
    }

    /// <summary>Begins anew at position 0.</summary>
    public void Reset() => _session.Reset();

    /// <summary>The logits of the last token.</summary>
    public float[] Logits() => _model.Device.Read(_logits);

    public void Dispose()
    {
        _sampler.Dispose();
        _session.Dispose();
        _model.Dispose();
    }

    /// <summary>Ids that any vocabulary has; the first is the begin of a text.</summary>
    public static int[] Ids(int count, int vocabulary)
    {
        var random = new Random(count);
        return [2, .. Enumerable.Range(1, count - 1).Select(_ => random.Next(3, vocabulary))];
    }
}
