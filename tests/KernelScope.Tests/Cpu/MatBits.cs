using KernelScope.Devices;

namespace KernelScope.Tests.Cpu;

/// <summary>What tests of equal bits compare.</summary>
internal static class MatBits
{
    /// <summary>The bits of all values of a matrix, row by row.</summary>
    public static uint[] Bits(this Device device, Mat mat)
    {
        var values = new float[mat.Rows * mat.Columns];
        device.Read(mat, values);
        return Array.ConvertAll(values, BitConverter.SingleToUInt32Bits);
    }
}
