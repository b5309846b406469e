using KernelScope.Devices;

namespace KernelScope.Training;

/// <summary>A matrix that the host fills and a device reads. In host memory the two are one.</summary>
internal sealed class DeviceRoom : IDisposable
{
    private readonly Device _device;
    private readonly float[]? _host;

    public DeviceRoom(Device device, int rows, int columns, string name)
    {
        _device = device;
        Values = device.CreateMat(rows, columns, name);
        if (Values.Buffer is not HostBuffer)
            _host = new float[checked(rows * columns)];
    }

    /// <summary>The matrix on the device.</summary>
    public Mat Values { get; }

    /// <summary>What the host fills.</summary>
    public unsafe Span<float> Host => _host ?? new Span<float>(HostBuffer.Pointer(Values), checked(Values.Rows * Values.Columns));

    /// <summary>Brings what the host filled to the device.</summary>
    public void Send()
    {
        if (_host is not null)
            _device.Write(_host, Values);
    }

    public void Dispose() => Values.Buffer.Dispose();
}
