using KernelScope.Devices;

namespace KernelScope.Sae;

/// <summary>What a call of an SAE needs beside its arguments.</summary>
internal sealed class SaeRoom(Device device, SaeConfig config) : IDisposable
{
    private GrowingMat _input = new(device, config.InputDim, "sae input");
    private GrowingMat _skipped = new(device, config.OutputDim, "skip");
    private float[] _host = [];

    /// <summary>Room for the encoder's input.</summary>
    public Mat Input(int rows) => _input.WithRows(rows);

    /// <summary>Room for the skip path's output.</summary>
    public Mat Skipped(int rows) => _skipped.WithRows(rows);

    /// <summary>Room on the host.</summary>
    public Span<float> Host(int length)
    {
        if (_host.Length < length)
            _host = new float[length];
        return _host.AsSpan(0, length);
    }

    public void Dispose()
    {
        _input.Dispose();
        _skipped.Dispose();
    }
}

/// <summary>Rooms for the calls of an SAE that run at once, one for each; they are kept, so that a steady state allocates nothing.</summary>
internal sealed class SaeRooms(Device device, SaeConfig config) : IDisposable
{
    private readonly Stack<SaeRoom> _free = new();
    private bool _disposed;

    /// <summary>A room that no other call has, until the result is disposed.</summary>
    public Rented Rent()
    {
        lock (_free)
            return new Rented(this, _free.TryPop(out SaeRoom? room) ? room : new SaeRoom(device, config));
    }

    /// <summary>Gives the free rooms back; those that are rented go when their calls end.</summary>
    public void Dispose()
    {
        lock (_free)
        {
            _disposed = true;
            while (_free.TryPop(out SaeRoom? room))
                room.Dispose();
        }
    }

    private void Return(SaeRoom room)
    {
        lock (_free)
        {
            if (_disposed)
                room.Dispose();
            else
                _free.Push(room);
        }
    }

    /// <summary>A room in use.</summary>
    internal readonly ref struct Rented(SaeRooms rooms, SaeRoom room)
    {
        public SaeRoom Room => room;

        public void Dispose() => rooms.Return(room);
    }
}
