using System.Collections.Concurrent;

namespace KernelScope.Devices;

/// <summary>Lets one op of a device run at a time, whoever calls it, and gives memory back only where none runs.</summary>
/// <remarks>
/// An op reads pointers only after it has entered, and what was disposed meanwhile is freed when it leaves: so nothing is freed or unmapped
/// below an op, without a count for each operand.
/// Devices that pass ops on share the gate of the device that computes.
/// </remarks>
internal sealed class OpGate(Device owner)
{
    // The gate on whose device this thread is doing a unit of host work; null elsewhere.
    [ThreadStatic]
    private static OpGate? _hostWork;

    private readonly Lock _lock = new();
    private readonly ConcurrentQueue<IDisposable> _released = new();
    private int _depth;
    private int _closed;
    private volatile bool _pending;

    /// <summary>The device that computes.</summary>
    public Device Owner => owner;

    /// <summary>Whether the device was disposed.</summary>
    public bool IsClosed => Volatile.Read(ref _closed) != 0;

    /// <summary>The op that runs; while none does, the last.</summary>
    public string OpName { get; private set; } = "";

    /// <summary>Waits until no other thread is in an op. An op may call others.</summary>
    /// <param name="op">Its name.</param>
    /// <exception cref="ObjectDisposedException">The device was disposed.</exception>
    /// <exception cref="InvalidOperationException">This thread is doing a unit of the device's host work: the device waits for that
    /// unit.</exception>
    public void Enter(string op = "")
    {
        if (_hostWork == this)
            throw new InvalidOperationException($"{nameof(Device.ForEach)} of device '{owner.Name}' called an op of that device, which " +
                "waits for this work to end; call ops before or after it.");
        _lock.Enter();
        _depth++;
        if (_depth == 1)
            OpName = op;
        // What has begun ends.
        if (_depth == 1 && IsClosed)
        {
            Exit();
            ThrowIfClosed();
        }
    }

    /// <summary>Ends an op; the last one that this thread is in gives back what was released meanwhile.</summary>
    public void Exit()
    {
        bool outermost = _depth == 1;
        try
        {
            if (outermost && _pending)
                Collect();
        }
        finally
        {
            _depth--;
            _lock.Exit();
        }

        // Released between the look above and the end.
        if (outermost && _pending)
            GiveBack();
    }

    /// <summary>
    /// Disposes something that ops may be reading: now if none runs, else when the one that runs ends. Does not wait, so finalizers may
    /// call it.
    /// </summary>
    public void Release(IDisposable memory)
    {
        _released.Enqueue(memory);
        GiveBack();
    }

    /// <summary>Gives back what the device has collected, as <see cref="Release"/> does.</summary>
    public void GiveBack()
    {
        _pending = true;
        while (_pending && _lock.TryEnter())
        {
            bool inside = _depth > 0;
            try
            {
                if (!inside)
                    Collect();
            }
            finally
            {
                _lock.Exit();
            }

            if (inside)
                return;
        }
    }

    /// <summary>Lets no further op begin, and disposes <paramref name="rest"/> when none runs.</summary>
    public void Close(IDisposable rest)
    {
        if (Interlocked.Exchange(ref _closed, 1) == 0)
            Release(rest);
    }

    public void ThrowIfClosed()
    {
        if (IsClosed)
            throw new ObjectDisposedException(owner.Name, $"The device '{owner.Name}' was disposed.");
    }

    /// <summary>Disposes everything that was released. For the device, in <see cref="Device.Collect"/>.</summary>
    public void DisposeReleased()
    {
        while (_released.TryDequeue(out IDisposable? memory))
            memory.Dispose();
    }

    /// <summary>Work whose units refuse to call ops of this device.</summary>
    public Action<int> HostWork(Action<int> work) => unit =>
    {
        OpGate? outer = _hostWork;
        _hostWork = this;
        try
        {
            work(unit);
        }
        finally
        {
            _hostWork = outer;
        }
    };

    private void Collect()
    {
        _pending = false;
        owner.Collect();
    }
}
