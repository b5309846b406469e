using KernelScope.Devices;

namespace KernelScope.Model;

/// <summary>The buffers of a model's forward calls: each call takes a set and gives it back, so that a session that waits holds none.</summary>
/// <remarks>Sets are kept up to a bound, so calls that come one after the other allocate nothing. For any number of threads.</remarks>
internal sealed class CallPool(Device device, Gemma2Config config) : IDisposable
{
    // Rows of the sets that are kept while nobody uses them, together: 2B's take 87 kB a row.
    private const int KeptRows = 1024;

    private readonly Lock _gate = new();
    private readonly List<ForwardCall> _free = []; // the one that was used last is the last
    private bool _disposed;

    /// <summary>A set for at least so many rows: the smallest that is free, or a new one.</summary>
    /// <exception cref="ObjectDisposedException">The model was disposed.</exception>
    public ForwardCall Rent(int rows)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, typeof(Gemma2Model));
            int best = -1;
            for (int n = 0; n < _free.Count; n++)
            {
                int size = _free[n].Buffers.RowCount;
                if (size >= rows && (best < 0 || size <= _free[best].Buffers.RowCount))
                    best = n;
            }

            if (best >= 0)
            {
                ForwardCall call = _free[best];
                _free.RemoveAt(best);
                return call;
            }
        }

        return new ForwardCall(this, new ActivationBuffers(device, config, SizeFor(rows)));
    }

    /// <summary>Takes a set back. Those that were not used for the longest time go where too many are kept.</summary>
    public void Return(ForwardCall call)
    {
        lock (_gate)
        {
            _free.Add(call);
            int kept = 0;
            for (int n = _free.Count - 1; n >= 0; n--)
            {
                kept += _free[n].Buffers.RowCount;
                if (!_disposed && (kept <= KeptRows || n == _free.Count - 1))
                    continue;
                _free[n].Buffers.Dispose();
                _free.RemoveAt(n);
            }
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            _disposed = true;
            foreach (ForwardCall call in _free)
                call.Buffers.Dispose();
            _free.Clear();
        }
    }

    /// <summary>Rows of the set that a call with <paramref name="rows"/> rows gets: few different sizes, so that calls of many lengths share sets.</summary>
    public static int SizeFor(int rows) => rows <= 8 ? 8 : rows <= 64 ? 64 : checked(rows + 255) / 256 * 256;
}
