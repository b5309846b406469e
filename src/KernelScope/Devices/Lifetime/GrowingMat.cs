namespace KernelScope.Devices;

/// <summary>A matrix for a varying number of rows; its memory grows and stays.</summary>
internal struct GrowingMat(Device device, int columns, string name) : IDisposable
{
    private Mat _mat;

    /// <summary>The first <paramref name="rows"/> rows, with any content.</summary>
    public Mat WithRows(int rows)
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
