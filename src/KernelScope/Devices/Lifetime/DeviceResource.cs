namespace KernelScope.Devices;

/// <summary>What a device holds for somebody: a buffer, a weight, codes.</summary>
/// <remarks>
/// Any number of threads may use it and dispose it. Disposing returns at once: an op that runs ends with what it has, the next one throws <see cref="ObjectDisposedException"/>,
/// and the memory goes back when no op runs.
/// </remarks>
public abstract class DeviceResource : IDisposable
{
    private int _disposed;

    private protected DeviceResource(string name) => Name = name;

    /// <summary>What it is, for messages.</summary>
    public string Name { get; }

    /// <summary>Whether it was disposed: no further op takes it.</summary>
    public bool IsDisposed => Volatile.Read(ref _disposed) != 0;

    /// <summary>The model or SAE that it belongs to, for messages; null where it is nobody's part.</summary>
    internal string? Owner { get; set; }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Hands the memory over to be given back when no op runs. Called once, or by a finalizer.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }

    /// <summary>A device asks this inside an op, before it reads where the memory is.</summary>
    /// <exception cref="ObjectDisposedException">It was disposed.</exception>
    protected void ThrowIfDisposed()
    {
        if (IsDisposed)
            throw new ObjectDisposedException(Owner ?? Name, Owner is null ? $"'{Name}' was disposed." : $"{Owner} was disposed: an op " +
                $"needs its '{Name}'.");
    }
}
