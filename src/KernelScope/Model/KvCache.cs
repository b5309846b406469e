using KernelScope.Devices;

namespace KernelScope.Model;

/// <summary>Keys and values of all layers. Sliding layers keep a ring of their window and one chunk, the others the whole context.</summary>
internal sealed class KvCache : IDisposable
{
    private readonly KvLayer[] _layers;

    public KvCache(Device device, Gemma2Config config, int contextLength, int chunkLength)
    {
        _layers = new KvLayer[config.LayerCount];
        for (int l = 0; l < _layers.Length; l++)
        {
            int capacity = CapacityOf(config, l, contextLength, chunkLength);
            int rows = checked(config.KvHeadCount * capacity);
            _layers[l] = new KvLayer(
                device.CreateMat(rows, config.HeadDim, $"keys.{l}"), device.CreateMat(rows, config.HeadDim, $"values.{l}"), config.KvHeadCount, capacity);
        }
    }

    public KvLayer this[int layer] => _layers[layer];

    public static long BytesFor(Gemma2Config config, int contextLength, int chunkLength)
    {
        long positions = 0;
        for (int l = 0; l < config.LayerCount; l++)
            positions += CapacityOf(config, l, contextLength, chunkLength);
        return positions * config.KvHeadCount * config.HeadDim * 2 * sizeof(float);
    }

    public void Dispose()
    {
        foreach (KvLayer layer in _layers)
        {
            layer.Keys.Buffer.Dispose();
            layer.Values.Buffer.Dispose();
        }
    }

    private static int CapacityOf(Gemma2Config config, int layer, int contextLength, int chunkLength) =>
        config.IsSliding(layer) ? (int)Math.Min(contextLength, (long)config.SlidingWindow + chunkLength - 1) : contextLength;
}
