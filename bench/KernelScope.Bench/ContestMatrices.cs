using KernelScope.Devices;

namespace KernelScope.Bench;

/// <summary>Matrices of a contest.</summary>
internal static class ContestMatrices
{
    /// <summary>A matrix with values.</summary>
    public static Mat Mat(this Device device, float[] values, int rows)
    {
        Mat mat = device.CreateMat(rows, values.Length / rows, "values");
        device.Write(values, mat);
        return mat;
    }

    /// <summary>The values of a matrix.</summary>
    public static float[] Read(this Device device, Mat mat)
    {
        var values = new float[(long)mat.Rows * mat.Columns];
        device.Read(mat, values);
        return values;
    }
}
