using KernelScope.Files;
using KernelScope.Model;

using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace KernelScope.Bench.Peers;

/// <summary>
/// Gemma 2 by libtorch in bfloat16, as its transformers model computes it: q, k and v in one product, gate and up in one, norms in float32, keys and values in memory that is made once. For contexts no longer than the
/// window, where sliding and global layers are alike.
/// </summary>
internal sealed class TorchModel : IDisposable
{
    private readonly Gemma2Config _config;
    private readonly Tensor _embedding;
    private readonly Tensor _finalNorm;
    private readonly Tensor _cos;
    private readonly Tensor _sin;
    private readonly Layer[] _layers;
    private readonly List<IDisposable> _owned = [];
    private int _position;

    /// <summary>Copies a checkpoint's weights, and closes it.</summary>
    public TorchModel(Gemma2Checkpoint checkpoint, int context)
    {
        using (checkpoint)
        {
            _config = checkpoint.Config;
            ArgumentOutOfRangeException.ThrowIfGreaterThan(context, _config.SlidingWindow);
            _embedding = Own(Torch.Of(checkpoint.Embedding, DType.BF16));
            _finalNorm = Gain(checkpoint.FinalNorm);
            _layers = [.. Enumerable.Range(0, _config.LayerCount).Select(l => Load(checkpoint.Layer(l), context))];
        }

        using Tensor angles =
            outer(arange(context, ScalarType.Float64),
                pow(_config.RopeTheta, arange(0, _config.HeadDim, 2, ScalarType.Float64) / -_config.HeadDim));
        _cos = Own(cat([angles.cos(), angles.cos()], 1).to(ScalarType.BFloat16));
        _sin = Own(cat([angles.sin(), angles.sin()], 1).to(ScalarType.BFloat16));
    }

    /// <summary>Takes the next tokens of a sequence one by one, and after each the largest logit; behind the last it begins anew.</summary>
    public Contestant Decoding(int[] ids, int tokens) => Run(() =>
    {
        if (_position == ids.Length)
            _position = 0;
        Tensor logits = Forward([ids[_position]]);
        logits.argmax(-1).item<long>();
        for (int n = 1; n < tokens; n++)
        {
            logits = Forward([ids[_position]]);
            logits.argmax(-1).item<long>();
        }

        return logits;
    });

    /// <summary>Takes all tokens at once from position 0.</summary>
    public Contestant Prefilling(int[] ids) => Run(() =>
    {
        _position = 0;
        return Forward(ids);
    });

    public void Dispose() => _owned.ForEach(one => one.Dispose());

    private Contestant Run(Func<Tensor> run) => Own(new TorchRun(Torch.Name(DType.BF16), run)).Contestant;

    private Tensor Forward(int[] ids)
    {
        Tensor x = _embedding.index_select(0, tensor(ids.Select(id => (long)id).ToArray())).mul_(Math.Sqrt(_config.ModelDim));
        Tensor? mask = ids.Length > 1 ? full(ids.Length, _position + ids.Length, float.NegativeInfinity, ScalarType.BFloat16)
            .triu_(_position + 1) : null;
        foreach (Layer layer in _layers)
        {
            x = x.add_(Norm(functional.linear(Attend(functional.linear(Norm(x, layer.PreAttn), layer.Qkv), layer, mask), layer.O),
                layer.PostAttn));
            x = x.add_(Norm(Mlp(Norm(x, layer.PreMlp), layer), layer.PostMlp));
        }

        _position += ids.Length;
        Tensor last = Norm(x.narrow(0, ids.Length - 1, 1), _finalNorm);
        return functional.linear(last, _embedding).div_(_config.FinalSoftcap).tanh_().mul_(_config.FinalSoftcap);
    }

    private Tensor Mlp(Tensor x, Layer layer)
    {
        Tensor both = functional.linear(x, layer.GateUp);
        Tensor gate = both.narrow(-1, 0, _config.MlpDim), up = both.narrow(-1, _config.MlpDim, _config.MlpDim);
        return functional.linear(functional.gelu(gate, TorchSharp.Modules.GELU.Approximate.tanh).mul_(up), layer.Down);
    }

    private Tensor Attend(Tensor qkv, Layer layer, Tensor? mask)
    {
        int rows = (int)qkv.shape[0], kvHeads = _config.KvHeadCount, group = _config.HeadCount / kvHeads, dim = _config.HeadDim,
            keys = _position + rows;
        // [t, head, d] -> [head, t, d]
        Tensor heads = qkv.view(rows, -1, dim).transpose(0, 1);
        layer.Keys.narrow(1, _position, rows).copy_(Rotate(heads.narrow(0, _config.HeadCount, kvHeads)));
        layer.Values.narrow(1, _position, rows).copy_(heads.narrow(0, _config.HeadCount + kvHeads, kvHeads));
        // The query heads of a key/value head lie together, so that each is one batched product.
        Tensor queries = Rotate(heads.narrow(0, 0, _config.HeadCount)).reshape(kvHeads, group * rows, dim);
        Tensor scores = matmul(queries, layer.Keys.narrow(1, 0, keys).transpose(1, 2))
            .mul_(Math.Pow(_config.QueryPreAttnScalar, -0.5) / _config.AttentionSoftcap).tanh_().mul_(_config.AttentionSoftcap);
        if (mask is not null)
            scores.view(kvHeads, group, rows, keys).add_(mask);
        return matmul(scores.softmax(-1), layer.Values.narrow(1, 0, keys)).view(kvHeads * group, rows, dim).transpose(0, 1)
            .reshape(rows, -1);
    }

    private Tensor Rotate(Tensor x)
    {
        int rows = (int)x.shape[1], half = _config.HeadDim / 2;
        Tensor turned = cat([x.narrow(2, half, half).neg(), x.narrow(2, 0, half)], 2);
        return (x * _cos.narrow(0, _position, rows)).addcmul_(turned, _sin.narrow(0, _position, rows), 1);
    }

    private Tensor Norm(Tensor x, Tensor gain)
    {
        Tensor wide = x.to(ScalarType.Float32);
        return (wide * wide.square().mean([-1L], keepdim: true).add_(_config.NormEpsilon).rsqrt_()).mul_(gain).to(ScalarType.BFloat16);
    }

    private Layer Load(LayerTensors t, int context) => new(
        Gain(t.InputNorm), Gain(t.PostAttentionNorm), Gain(t.PreFeedForwardNorm), Gain(t.PostFeedForwardNorm),
        Stacked(t.Q, t.K, t.V), Stacked(t.O), Stacked(t.Gate, t.Up), Stacked(t.Down),
        Own(zeros(_config.KvHeadCount, context, _config.HeadDim, ScalarType.BFloat16)),
        Own(zeros(_config.KvHeadCount, context, _config.HeadDim, ScalarType.BFloat16)));

    private Tensor Stacked(params ReadOnlySpan<TensorView> parts)
    {
        var copies = new List<Tensor>();
        foreach (TensorView part in parts)
            copies.Add(Torch.Of(part, DType.BF16));
        if (copies.Count == 1)
            return Own(copies[0]);
        Tensor stacked = Own(cat(copies, 0));
        copies.ForEach(copy => copy.Dispose());
        return stacked;
    }

    private Tensor Gain(TensorView tensor) => Own(Torch.Of(tensor, DType.F32).add_(1));

    private T Own<T>(T one)
        where T : IDisposable
    {
        _owned.Add(one);
        return one;
    }

    private sealed record Layer(Tensor PreAttn, Tensor PostAttn, Tensor PreMlp, Tensor PostMlp, Tensor Qkv, Tensor O, Tensor GateUp,
        Tensor Down, Tensor Keys, Tensor Values);
}
