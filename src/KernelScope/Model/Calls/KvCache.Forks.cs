using KernelScope.Devices;

namespace KernelScope.Model;

/// <content>Copies: one that shares everything until it writes, and one of another size.</content>
internal sealed partial class KvCache
{
    /// <summary>Another cache with the same content; nothing is copied.</summary>
    public KvCache Fork()
    {
        Storage storage = _storage ?? throw new ObjectDisposedException(nameof(Session));
        storage.Share();
        return new KvCache(_device, _config, _contextLength, _chunkLength, _type, storage) { Written = Written };
    }

    /// <summary>
    /// A cache of another size with the keys and values of the first <paramref name="position"/> positions; null where a ring no longer
    /// holds what goes on from there, or where they have other places in a ring of the other size.
    /// </summary>
    public KvCache? CopyOf(int position, int contextLength, int chunkLength)
    {
        Storage from = _storage ?? throw new ObjectDisposedException(nameof(Session));
        // A ring that went round holds later positions too, and each at a place that depends on its size.
        bool wraps = from.Layers.Any(l => Written > l.Capacity);
        int written = wraps ? Written : position;
        if (position < LowestPosition || written > contextLength)
            return null;
        for (int l = 0; l < from.Layers.Length; l++)
        {
            int capacity = CapacityOf(_config, l, contextLength, chunkLength);
            if (capacity != from.Layers[l].Capacity && written > Math.Min(capacity, from.Layers[l].Capacity))
                return null;
        }

        var copy = new KvCache(_device, _config, contextLength, chunkLength, _type) { Written = written };
        try
        {
            for (int l = 0; l < from.Layers.Length; l++)
                Copy(from.Layers[l], copy[l], Math.Min(written, copy[l].Capacity));
            return copy;
        }
        catch
        {
            copy.Dispose();
            throw;
        }
    }

    private void Copy(KvLayer from, KvLayer to, int positions)
    {
        if (positions == 0)
            return;
        for (int h = 0; h < from.KvHeadCount; h++)
        {
            int source = h * from.Capacity, row = h * to.Capacity;
            _device.Copy(from.Keys.RowRange(source, positions), to.Keys.RowRange(row, positions));
            _device.Copy(from.Values.RowRange(source, positions), to.Values.RowRange(row, positions));
        }
    }
}
