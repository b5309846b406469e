using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Model;

/// <summary>Keys and values of all layers. Sliding layers keep a ring of their window and one chunk, the others the whole context.</summary>
/// <remarks>
/// Forks share one <see cref="Storage"/>. Who writes while others share it copies what it needs first, and lets go; who shares it with nobody writes in place.
/// No lock is needed: only holders can make more holders, so a storage with one holder stays with it; two that copy at the same time copy once too often, which is harmless.
/// </remarks>
internal sealed partial class KvCache : IDisposable
{
    private readonly Device _device;
    private readonly Gemma2Config _config;
    private readonly int _contextLength;
    private readonly int _chunkLength;
    private readonly DType _type;
    private Storage? _storage;

    public KvCache(Device device, Gemma2Config config, int contextLength, int chunkLength, DType type)
        : this(device, config, contextLength, chunkLength, type, null)
    {
        _storage = Create();
    }

    private KvCache(Device device, Gemma2Config config, int contextLength, int chunkLength, DType type, Storage? storage)
    {
        _device = device;
        _config = config;
        _contextLength = contextLength;
        _chunkLength = chunkLength;
        _type = type;
        _storage = storage;
    }

    /// <summary>One beyond the furthest position that was written since the sequence began, also where the session went back since: a ring holds what lies at most its capacity before it.</summary>
    public int Written { get; set; }

    public KvLayer this[int layer] => (_storage ?? throw new ObjectDisposedException(nameof(Session))).Layers[layer];

    public static long BytesFor(Gemma2Config config, int contextLength, int chunkLength, DType type)
    {
        long positions = 0;
        for (int l = 0; l < config.LayerCount; l++)
            positions += CapacityOf(config, l, contextLength, chunkLength);
        return positions * config.KvHeadCount * config.HeadDim * 2 * (type == DType.BF16 ? sizeof(ushort) : sizeof(float));
    }

    /// <summary>Before positions from <paramref name="position"/> on are written: what is still shared is copied.</summary>
    public void Own(int position, int count)
    {
        Storage shared = _storage ?? throw new ObjectDisposedException(nameof(Session));
        if (position == 0)
            Written = 0;
        if (shared.IsShared)
        {
            Storage own = Create();
            for (int l = 0; l < own.Layers.Length; l++)
                Copy(shared.Layers[l], own.Layers[l], Math.Min(Written, own.Layers[l].Capacity));
            // Disposed meanwhile: then this cache no longer counts among those that share, and must not let go twice.
            if (Interlocked.CompareExchange(ref _storage, own, shared) != shared)
            {
                own.Release();
                throw new ObjectDisposedException(nameof(Session));
            }

            shared.Release();
        }

        Written = Math.Max(Written, position + count);
    }

    /// <summary>The first position that layer <paramref name="layer"/> still holds.</summary>
    public int FirstHeld(int layer) => Math.Max(0, Written - this[layer].Capacity);

    /// <summary>The lowest position from which a sequence can go on: every key that its windows see from there is still held.</summary>
    public int LowestPosition
    {
        get
        {
            int lowest = 0;
            for (int l = 0; l < _config.LayerCount; l++)
            {
                // The first query's window begins at position − window + 1.
                if (FirstHeld(l) is int first && first > 0)
                    lowest = Math.Max(lowest, first + _config.SlidingWindow - 1);
            }

            return lowest;
        }
    }

    public void Dispose()
    {
        Storage? storage = Interlocked.Exchange(ref _storage, null);
        storage?.Release();
    }

    private Storage Create()
    {
        var layers = new KvLayer[_config.LayerCount];
        for (int l = 0; l < layers.Length; l++)
        {
            int capacity = CapacityOf(_config, l, _contextLength, _chunkLength);
            layers[l] = CreateLayer(_device, $"{l}", _config.KvHeadCount, capacity, _config.HeadDim, _type);
        }

        return new Storage(layers);
    }

    /// <summary>Asks a device for a layer's cache, which whoever asked disposes.</summary>
    internal static KvLayer CreateLayer(Device device, string layer, int kvHeadCount, int capacity, int headDim, DType type)
    {
        int rows = checked(kvHeadCount * capacity), columns = type == DType.BF16 ? headDim / 2 : headDim;
        Mat keys = device.CreateMat(rows, columns, "keys." + layer), values = device.CreateMat(rows, columns, "values." + layer);
        return new KvLayer(keys, values, kvHeadCount, capacity, type);
    }

    private static int CapacityOf(Gemma2Config config, int layer, int contextLength, int chunkLength) =>
        config.IsSliding(layer) ? (int)Math.Min(contextLength, (long)config.SlidingWindow + chunkLength - 1) : contextLength;

    /// <summary>The memory, and how many caches it belongs to.</summary>
    private sealed class Storage(KvLayer[] layers)
    {
        private int _holders = 1;

        public KvLayer[] Layers { get; } = layers;

        public bool IsShared => Volatile.Read(ref _holders) > 1;

        public void Share() => Interlocked.Increment(ref _holders);

        public void Release()
        {
            if (Interlocked.Decrement(ref _holders) > 0)
                return;
            foreach (KvLayer layer in Layers)
            {
                layer.Keys.Buffer.Dispose();
                layer.Values.Buffer.Dispose();
            }
        }
    }
}
