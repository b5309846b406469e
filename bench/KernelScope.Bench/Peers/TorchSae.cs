using System.Diagnostics;
using KernelScope.Devices;
using KernelScope.Files;
using TorchSharp;
using static TorchSharp.torch;

namespace KernelScope.Bench.Peers;

/// <summary>An encoder by libtorch: bias fused into the product, the dense pre-activations kept where they lie above θ. It makes no lists; ours does.</summary>
internal sealed class TorchEncoder : IDisposable
{
    private readonly Tensor _x;
    private readonly Tensor _bias;
    private readonly Tensor _threshold;
    private readonly Tensor _zero;
    private readonly Tensor _weight;
    private readonly bool _turned;
    private readonly TorchRun _run;

    /// <summary>Keeps W_enc as it is stored or turned, whichever libtorch is faster with.</summary>
    public TorchEncoder(TensorView weight, float[] x, float[] bias, float threshold, int rows, DType type)
    {
        _x = Torch.Of(x, rows, type);
        _bias = Torch.Of(bias, 1, type).squeeze(0);
        _threshold = full(bias.Length, threshold, Torch.Scalar(type));
        _zero = zeros(1, Torch.Scalar(type));
        Tensor stored = Torch.Of(weight, type), turned = stored.t().contiguous();
        _turned = Seconds(() => nn.functional.linear(_x, turned, _bias)) < Seconds(() => addmm(_bias, _x, stored, 1f, 1f));
        (_weight, Tensor other) = _turned ? (turned, stored) : (stored, turned);
        other.Dispose();
        _run = new TorchRun(Torch.Name(type), () =>
        {
            // θ is above 0, so that one comparison is enough.
            Tensor a = _turned ? nn.functional.linear(_x, _weight, _bias) : addmm(_bias, _x, _weight, 1f, 1f);
            return where(a.gt(_threshold), a, _zero);
        });
    }

    public Contestant Contestant => _run.Contestant;

    public void Dispose()
    {
        _run.Dispose();
        foreach (Tensor tensor in (ReadOnlySpan<Tensor>)[_x, _bias, _threshold, _zero, _weight])
            tensor.Dispose();
    }

    private static double Seconds(Func<Tensor> run)
    {
        double least = double.MaxValue;
        for (int n = 0; n < 3; n++)
        {
            long start = Stopwatch.GetTimestamp();
            run().Dispose();
            least = Math.Min(least, Stopwatch.GetElapsedTime(start).TotalSeconds);
        }

        return least;
    }
}

/// <summary>A sparse decoder by libtorch: its EmbeddingBag, which reads only the rows that it is given and sums them weighted.</summary>
internal sealed class TorchDecoder : IDisposable
{
    private readonly TorchSharp.Modules.EmbeddingBag _bag;
    private readonly Tensor _bias;
    private readonly (Tensor Features, Tensor Starts, Tensor Values)[] _sets;
    private readonly TorchRun _run;

    public TorchDecoder(TensorView weight, float[] bias, CodeList[] sets)
    {
        DType type = weight.DType;
        _bag = nn.EmbeddingBag_from_pretrained(Torch.Of(weight, type), freeze: true, mode: EmbeddingBagMode.Sum);
        _bias = Torch.Of(bias, 1, type);
        _sets = [.. sets.Select(set => (
            tensor(set.Feature.Take(set.Count).Select(f => (long)f).ToArray()),
            tensor(set.RowStart.Take(set.Rows).ToArray()),
            Torch.Of([.. set.Value.Take(set.Count)], 1, type).squeeze(0)))];
        int next = 0;
        _run = new TorchRun(Torch.Name(type) + " EmbeddingBag", () =>
        {
            (Tensor features, Tensor starts, Tensor values) = _sets[next++ % _sets.Length];
            return _bag.call(features, starts, values).add_(_bias);
        });
    }

    public Contestant Contestant => _run.Contestant;

    public void Dispose()
    {
        _run.Dispose();
        _bag.Dispose();
        _bias.Dispose();
        foreach ((Tensor features, Tensor starts, Tensor values) in _sets)
        {
            features.Dispose();
            starts.Dispose();
            values.Dispose();
        }
    }
}
