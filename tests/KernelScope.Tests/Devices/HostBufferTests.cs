using KernelScope.Devices;

namespace KernelScope.Tests.Devices;

public unsafe class HostBufferTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(1000)]
    public void Memory_begins_on_a_64_byte_line_and_is_zero(int length)
    {
        using HostBuffer buffer = new("x", length);
        Assert.Equal(0, (nint)buffer.Start % 64);
        Assert.Equal(-1, new ReadOnlySpan<float>(buffer.Start, length).IndexOfAnyExcept(0f));
    }

    [Fact]
    public void Element_0_0_of_a_view_is_where_its_offset_says()
    {
        using HostBuffer buffer = new("x", 12);
        Mat view = new Mat(buffer, 3, 4).RowRange(1, 2).ColumnRange(2, 2);
        Assert.Equal(6, HostBuffer.Pointer(view) - buffer.Start);
        HostBuffer.Row(view, 1)[1] = 5f;
        Assert.Equal(5f, buffer.Start[11]);
    }

    [Fact]
    public void Memory_that_was_given_back_cannot_be_used()
    {
        HostBuffer buffer = new("x", 4);
        Mat view = new(buffer, 2, 2);
        buffer.Dispose();
        buffer.Dispose();
        Assert.Throws<ObjectDisposedException>(() => HostBuffer.Row(view, 0).Clear());
    }

    [Fact]
    public void A_matrix_of_another_kind_of_device_is_refused_by_name()
    {
        using OtherBuffer buffer = new();
        ArgumentException e = Assert.Throws<ArgumentException>(() => HostBuffer.Row(new Mat(buffer, 2, 2), 0).Clear());
        Assert.Contains("elsewhere [2, 2] is not in host memory", e.Message, StringComparison.Ordinal);
    }

    private sealed class OtherBuffer() : DeviceBuffer("elsewhere", 4);
}
