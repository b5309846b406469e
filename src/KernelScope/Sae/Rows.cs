using KernelScope.Devices;

namespace KernelScope.Sae;

/// <summary>Room for a varying number of rows; it grows and stays.</summary>
internal struct Rows(Device device, int columns, string name) : IDisposable
{
    private Mat _mat;

    public Mat Of(int rows)
    {
        if (rows > _mat.Rows)
        {
            Dispose();
            _mat = device.CreateMat(rows, columns, name);
        }

        return _mat.RowRange(0, rows);
    }

    public void Dispose() => _mat.Buffer?.Dispose();
}
