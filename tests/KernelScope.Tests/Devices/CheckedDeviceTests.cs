using KernelScope.Conformance;
using KernelScope.Devices;
using KernelScope.Devices.Reference;

namespace KernelScope.Tests.Devices;

public sealed class CheckedDeviceTests : IDisposable
{
    private readonly CheckedDevice _device = new(new ReferenceDevice());
    private readonly List<DeviceBuffer> _owned = [];

    public void Dispose()
    {
        foreach (DeviceBuffer owned in _owned)
            owned.Dispose();
        _device.Dispose();
    }

    [Fact]
    public void It_changes_no_result_and_stops_only_where_a_value_is_not_finite()
    {
        foreach (ConformanceCase c in ConformanceSuite.Cases(ConformanceScale.Tiny))
        {
            ConformanceResult result = c.Run(_device);
            Assert.True(result.Ok || result.Message.StartsWith(nameof(NotFiniteNumberException), StringComparison.Ordinal),
                result.ToString());
        }
    }

    [Fact]
    public void A_NaN_is_found_where_it_arises()
    {
        Mat x = Matrix(2, 3, "stream");
        _device.Write([1, 2, 3, 4, 5, float.MaxValue], x);
        NotFiniteNumberException e = Assert.Throws<NotFiniteNumberException>(() => _device.AddScaled(x, 2f, x));
        Assert.Equal("AddScaled: stream [2, 3] has Infinity in row 1, column 2.", e.Message);
    }

    [Fact]
    public void Overlaps_that_an_op_does_not_allow_are_refused()
    {
        Mat all = Matrix(4, 8, "all");
        Mat gain = Matrix(1, 4, "gain");
        Assert.Throws<ArgumentException>(() => _device.Copy(all.RowRange(0, 2), all.RowRange(1, 2)));
        Assert.Throws<ArgumentException>(() => _device.Copy(all.ColumnRange(0, 5), all.ColumnRange(3, 5)));
        Assert.Throws<ArgumentException>(() => _device.AddScaled(all.RowRange(1, 1), 1f, all));
        Assert.Throws<ArgumentException>(
            () => _device.ApplyGain(all.ColumnRange(0, 4), all.RowRange(0, 1).ColumnRange(2, 4), all.ColumnRange(0, 4)));
        Assert.Throws<ArgumentException>(
            () => _device.AddNormedThenNorm(all, Matrix(1, 8, "g"), Matrix(1, 8, "g"), 1e-6f, all, Matrix(4, 8, "normed")));
        // The two sides of one matrix, and the same matrix where an op may be in place.
        _device.Copy(all.ColumnRange(0, 4), all.ColumnRange(4, 4));
        _device.Copy(all.RowRange(0, 2), all.RowRange(2, 2));
        _device.RmsNorm(all.ColumnRange(4, 4), gain, 1e-6f, all.ColumnRange(4, 4));
        _device.AddScaled(all, 1f, all);
    }

    private Mat Matrix(int rows, int columns, string name)
    {
        Mat x = _device.CreateMat(rows, columns, name);
        _owned.Add(x.Buffer);
        return x;
    }
}
