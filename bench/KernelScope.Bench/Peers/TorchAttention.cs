using KernelScope.Bench.Cases;
using KernelScope.Files;
using static TorchSharp.torch;

namespace KernelScope.Bench.Peers;

/// <summary>
/// Gemma 2's attention by libtorch. Its fused attention has no soft-cap, so scores are made, capped, masked and mixed by its own ops, in place, for a chunk of queries at a time over
/// only the keys that the chunk sees; the query heads of a key/value head lie together, so that each is one batched product.
/// </summary>
internal sealed class TorchAttention : IDisposable
{
    private const int Chunk = 512;
    private const int Group = Shape2B.Heads / Shape2B.KvHeads;

    private readonly int _rows;
    private readonly int _position;
    private readonly int _window;
    private readonly List<(Tensor Queries, Tensor? Mask, int FirstKey, int Keys)> _chunks = [];
    private readonly Tensor _keys;
    private readonly Tensor _values;
    private readonly TorchRun _run;

    public TorchAttention(float[] queries, float[] keys, float[] values, int rows, int position, int window, DType type)
    {
        _rows = rows;
        _position = position;
        _window = window;
        _keys = Torch.Of(keys, Shape2B.KvHeads, type).reshape(Shape2B.KvHeads, -1, Shape2B.HeadDim);
        _values = Torch.Of(values, Shape2B.KvHeads, type).reshape(Shape2B.KvHeads, -1, Shape2B.HeadDim);
        // [t, kv head, group, d] -> [kv head, group, t, d]
        using Tensor all = Torch.Of(queries, rows, type).reshape(rows, Shape2B.KvHeads, Group, Shape2B.HeadDim).permute(1, 2, 0, 3)
            .contiguous();
        for (int first = 0; first < rows; first += Chunk)
            Add(all, first, Math.Min(Chunk, rows - first));
        _run = new TorchRun(Torch.Name(type), () => cat([.. _chunks.Select(Attend)], 2), Rows);
    }

    public Contestant Contestant => _run.Contestant;

    public void Dispose()
    {
        _run.Dispose();
        _keys.Dispose();
        _values.Dispose();
        foreach ((Tensor queries, Tensor? mask, _, _) in _chunks)
        {
            queries.Dispose();
            mask?.Dispose();
        }
    }

    private void Add(Tensor all, int first, int count)
    {
        int position = _position + first;
        int firstKey = _window > 0 ? Math.Max(0, position + 1 - _window) : 0;
        int keys = position + count - firstKey;
        Tensor? mask = null;
        if (count > 1)
        {
            using Tensor back = arange(position, position + count).unsqueeze(1) - arange(firstKey, firstKey + keys).unsqueeze(0);
            using Tensor hidden = _window > 0 ? back.lt(0).logical_or(back.ge(_window)) : back.lt(0);
            mask = zeros(count, keys, all.dtype).masked_fill_(hidden, float.NegativeInfinity);
        }

        _chunks.Add((all.narrow(2, first, count).reshape(Shape2B.KvHeads, -1, Shape2B.HeadDim), mask, firstKey, keys));
    }

    private Tensor Attend((Tensor Queries, Tensor? Mask, int FirstKey, int Keys) chunk)
    {
        Tensor keys = _keys.narrow(1, chunk.FirstKey, chunk.Keys), values = _values.narrow(1, chunk.FirstKey, chunk.Keys);
        Tensor scores = matmul(chunk.Queries, keys.transpose(1, 2)).mul_(1 / (16 * Shape2B.Softcap)).tanh_().mul_(Shape2B.Softcap);
        if (chunk.Mask is not null)
            scores.view(Shape2B.KvHeads, Group, -1, chunk.Keys).add_(chunk.Mask);
        return matmul(scores.softmax(-1), values).view(Shape2B.KvHeads, Group, -1, Shape2B.HeadDim);
    }

    /// <summary>[kv head, group, t, d] as rows of ours, [t, head · d].</summary>
    private float[] Rows(Tensor result)
    {
        using Tensor rows = result.permute(2, 0, 1, 3).reshape(_rows, -1);
        return Torch.Floats(rows);
    }
}
