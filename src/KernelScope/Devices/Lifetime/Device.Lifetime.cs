using System.Runtime.CompilerServices;

namespace KernelScope.Devices;

/// <content>Ops one at a time, and when memory goes back.</content>
public abstract partial class Device
{
    /// <summary>Lets no further op begin and returns at once; what runs ends, and then threads or contexts go back.</summary>
    public void Dispose()
    {
        if (ReferenceEquals(_gate.Owner, this))
            _gate.Close(new Rest(this));
        else
            Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Gives threads or contexts back. No op runs meanwhile.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }

    /// <summary>
    /// Begins something that must not run beside an op, until the result is disposed. An op may begin others of the same device.
    /// </summary>
    /// <param name="op">Its name, for messages.</param>
    /// <exception cref="ObjectDisposedException">The device was disposed.</exception>
    /// <exception cref="InvalidOperationException">Called in <see cref="ForEach"/>, by work that the device waits for.</exception>
    protected RunningOp Enter([CallerMemberName] string op = "")
    {
        _gate.Enter(op);
        return new RunningOp(this);
    }

    /// <summary>The op that runs, as users call it, for messages: of ops within another one, the outer.</summary>
    protected string RunningOpName => _gate.OpName;

    /// <summary>Calls <see cref="Collect"/>: now if no op runs, else at the end of the one that runs. Does not wait.</summary>
    protected void CollectWhenIdle() => _gate.GiveBack();

    /// <summary>
    /// Gives memory back that was disposed; no op runs meanwhile. A device whose work goes on after an op waits for it first.
    /// </summary>
    protected internal virtual void Collect() => _gate.DisposeReleased();

    /// <summary>
    /// Disposes something that ops may be reading, a mapped file say: now if no op runs, else at the end of the one that runs. Does not
    /// wait.
    /// </summary>
    internal void DisposeWhenIdle(IDisposable memory) => _gate.Release(memory);

    /// <summary>An op that runs; it ends when this is disposed.</summary>
    /// <remarks>For the thread that began it.</remarks>
    protected readonly ref struct RunningOp
    {
        // Also keeps the device from being finalized below an op.
        private readonly Device _device;

        internal RunningOp(Device device) => _device = device;

        /// <summary>Ends the op.</summary>
        public void Dispose() => _device._gate.Exit();
    }

    private sealed class Rest(Device device) : IDisposable
    {
        public void Dispose() => device.Dispose(disposing: true);
    }
}
